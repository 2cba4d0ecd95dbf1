"""Workers of one search that are killed: is a trial lost, or counted twice?

Usage::

    python -m benchmarks.search_workers [--workers 4] [--kills 8] [--trials 16]
        [--storage postgresql+psycopg://user@host/database]

Without a storage a PostgreSQL of its own is started on loopback, from the programs ``initdb`` and
``pg_ctl``; psycopg has to be installed. Several ``exporter worker`` search for small networks on
the digits. At random moments one of them gets SIGKILL while it has a trial, and another takes its
place. In the end every killed trial must have been tried again to an end, and no choice may have
been measured twice. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from exporter.tuning.study import GRACE, open_study

NAME = "search"
BUILD = (
    "--size", "20x20", "--test-share", "0.25", "--widths", "48,64,64", "--epochs", "3",
    "--finetune-epochs", "2", "--quick-share", "0", "--timing-seconds", "0.5",
    "--max-drop", "100", "--min-speedup", "0",
)  # fmt: skip
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
PAUSE = (4.0, 12.0)
"""Seconds between two kills."""
PATIENCE = 3600.0


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL in ``folder``; yields its URL."""
    found = shutil.which("initdb") or next(
        iter(sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))), None
    )
    if found is None:
        raise SystemExit("There is no initdb. Install PostgreSQL, or give --storage.")
    programs = Path(found).parent
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, user = folder / "data", "search"
    # PostgreSQL refuses to run as root.
    other: list[str] = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if other:
        shutil.chown(folder, "postgres")
        folder.chmod(0o755)

    def run(program: str, *arguments: str) -> None:
        command = [*other, str(programs / program), "-D", str(data), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)

    run("initdb", "-A", "trust", "-U", user)
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", settings, "start")
    try:
        yield f"postgresql+psycopg://{user}@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-m", "fast", "stop")


def exporter(*arguments: str) -> list[str]:
    """Return the command line of the tool."""
    return [sys.executable, "-m", "exporter", *arguments, "--quiet"]


def start_worker(storage: str, cache: Path) -> subprocess.Popen[bytes]:
    """Start a worker that goes on until it is stopped."""
    command = exporter("worker", "--storage", storage, "--budget", "10h", "--cache", str(cache))
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def measured(study: optuna.Study) -> int:
    """Return how many trials have ended."""
    return len(study.get_trials(deepcopy=False, states=ENDED))


def kill_some(study: optuna.Study, storage: str, cache: Path, wanted: argparse.Namespace) -> int:
    """Let workers search, kill some of them, stop all; return how many were killed."""
    random = np.random.default_rng(0)
    workers = [start_worker(storage, cache) for _ in range(wanted.workers)]
    killed, until = 0, time.monotonic() + PATIENCE
    try:
        while time.monotonic() < until:
            time.sleep(random.uniform(*PAUSE))
            for worker in workers:
                if worker.poll() is not None:
                    raise SystemExit(f"A worker stopped by itself with code {worker.returncode}.")
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if killed < wanted.kills and len(running) >= wanted.workers:
                place = int(random.integers(len(workers)))
                workers[place].kill()
                workers[place].wait()
                killed += 1
                workers[place] = start_worker(storage, cache)
            # Trials of killed workers have been taken up again once no more run than workers do.
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if (
                killed == wanted.kills
                and measured(study) >= wanted.trials
                and len(running) <= wanted.workers
            ):
                return killed
        raise SystemExit("It took more than an hour.")
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGINT)
        for worker in workers:
            worker.wait()


def finish(study: optuna.Study, storage: str, cache: Path) -> None:
    """Let one worker at a time end what is still open."""
    time.sleep(GRACE)
    states = (TrialState.RUNNING, TrialState.WAITING)
    while study.get_trials(deepcopy=False, states=states):
        command = exporter("worker", "--storage", storage, "--trials", "1", "--cache", str(cache))
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def faults(trials: list[FrozenTrial]) -> list[str]:
    """Return what is wrong: trials without an end, and choices that were measured twice."""
    wrong = [
        f"trial {trial.number} never ended" for trial in trials if not trial.state.is_finished()
    ]
    followers = {
        number: trial for trial in trials for number in trial.system_attrs.get("retry_history", [])
    }
    for trial in trials:
        if trial.state == TrialState.FAIL and "error" not in trial.user_attrs:
            last = followers.get(trial.number)
            interrupted = any(
                other.number > trial.number and other.params == trial.params for other in trials
            )
            if last is None and not interrupted:
                wrong.append(f"trial {trial.number} was lost")
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    twice = Counter(str(sorted(trial.params.items())) for trial in complete)
    return wrong + [f"measured {count} times: {what}" for what, count in twice.items() if count > 1]


def main() -> None:
    """Print what was done and what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--storage", help="default: a PostgreSQL that is started for it")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="search-") as name:
        place = Path(name) / "postgresql"
        place.mkdir()
        Path(name).chmod(0o755)
        if wanted.storage:
            examine(wanted.storage, Path(name), wanted)
        else:
            with postgresql(place) as storage:
                examine(storage, Path(name), wanted)


def examine(storage: str, folder: Path, wanted: argparse.Namespace) -> None:
    """Run the search at ``storage`` and print its figures."""
    cache = folder / "cache"
    begin = ("tune", *BUILD, "--storage", storage, "--trials", "1", "--winners", "0")
    command = exporter(*begin, "--out", str(folder / "out"), "--cache", str(cache))
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    study = open_study(storage, NAME, None)
    started = time.monotonic()
    killed = kill_some(study, storage, cache, wanted)
    finish(study, storage, cache)
    trials = study.get_trials()
    states = Counter(trial.state.name.lower() for trial in trials)
    retried = sum(bool(trial.system_attrs.get("retry_history")) for trial in trials)
    print(
        f"{wanted.workers} workers, {killed} killed, {(time.monotonic() - started) / 60:.1f} "
        f"minutes. {len(trials)} trials: "
        + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        + f"; {retried} were tried again."
    )
    wrong = faults(trials)
    print("\n".join(wrong) or "None was lost, none was measured twice.")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
