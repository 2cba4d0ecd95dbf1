"""Builds that are killed: is nothing half-written, and are the bytes the same in the end?

Usage::

    python -m benchmarks.kills --kills 100

One small build of the digits runs through. Then builds are killed and resumed, up to four times
each, at a random moment of what is left of that first one's life: after so much processor time (so
a busy machine does not matter) with SIGKILL, SIGTERM or SIGINT, or with SIGKILL right before a
random file is opened, renamed, made or removed, which is where a moment matters most. After every
kill all that has a final name in the cache and in the output folder must be whole, by the digests
in its result or manifest; SIGINT must be answered in one line. At the end of every build the bundle
and the names of all files must be as in the first.

A build is a fork of this process, which has the libraries loaded: no kill is wasted on imports.
What libraries leave in the system's temporary folder when they are killed is counted, not judged.
Exit code 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import importlib
import json
import mmap
import os
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from exporter.artifacts import RESULT, sha256_of
from exporter.packing.pack import verify_bundle

RECIPE = """
target = "cpu-int8"
out = "out"

[data]
size = "20x20"
test_share = 0.25

[train]
widths = "16,16,16"
epochs = 3
batch_size = 100

[prune]
prune = 0.3
finetune_epochs = 2

[verify]
max_drop = 100.0
min_speedup = 0.0
timing_seconds = 0.1
"""
COMMAND = ("build", "--recipe", "build.toml", "--cache", "cache", "--quiet", "--json")
FOLDERS = ("out", "cache")
LOADED = ("exporter.cli", "exporter.pipeline", "exporter.golden", "sklearn.datasets")
"""What a build imports, now or later."""
SAME = ("model.onnx", "golden.npz", "labels.txt", "recipe.toml", "run.py", "sbom.cdx.json")
"""Files of a bundle in which nothing is measured."""
EVENTS = {
    "open",
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "shutil.copyfile",
}
INTERRUPTED = 130
KILLS_OF_ONE_BUILD = 4


@dataclass(frozen=True)
class Kill:
    """A moment, and what happens then."""

    signal: signal.Signals
    seconds: float | None = None
    """Of processor time; else before a file operation."""
    operation: int = 0
    """Counted from 1; 0 for none."""

    @property
    def name(self) -> str:
        when = "at a random time" if self.seconds is not None else "before a file operation"
        return f"{self.signal.name} {when}"


@dataclass(frozen=True)
class Run:
    """How one process ended."""

    code: int
    """Exit code, or minus the signal."""
    seconds: float
    """Of processor time."""
    operations: int
    said: str
    """Its stderr."""


@dataclass
class Tally:
    """What was seen."""

    kills: Counter[str] = field(default_factory=Counter)
    builds: int = 0
    whole: int = 0
    """Results and bundles that were checked after kills."""
    strays: int = 0
    """Entries left in the system's temporary folder."""
    wrong: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.kills.total()


def main() -> None:
    """Print what was done and what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    load()
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        found = Tally()
        random = np.random.default_rng(arguments.seed)
        with suppress(KeyboardInterrupt):  # what was found so far is told
            killed_builds(Path(name), arguments.kills, random, found)
    print("| killed by | times |\n|---|---|")
    for kill, times in sorted(found.kills.items()):
        print(f"| {kill} | {times} |")
    print(
        f"\n{found.count} kills in {found.builds} builds; {found.whole} finished "
        f"results checked after them; {found.strays} temporary entries of libraries left; "
        f"{len(found.wrong)} faults."
    )
    print("\n".join(sorted(set(found.wrong))), file=sys.stderr)
    sys.exit(1 if found.wrong else 0)


def load() -> None:
    """Import what a build will; PyTorch's exporter imports half of its own while it runs."""
    os.environ["OMP_NUM_THREADS"] = "1"  # a fork keeps no threads
    for name in LOADED:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    torch.onnx.export(torch.nn.Linear(1, 1).eval(), (torch.ones(1, 1),), verbose=False)


def fresh(work: Path) -> Path:
    """Make the folder for a build, and return it."""
    (work / "tmp").mkdir(parents=True)
    (work / "build.toml").write_text(RECIPE)
    return work


def killed_builds(folder: Path, kills: int, random: np.random.Generator, tally: Tally) -> None:
    """Note what becomes of builds that are killed so many times in all."""
    first = fresh(folder / "first")
    whole = build(first)
    if whole.code:
        raise SystemExit(f"The build fails without being killed: {whole.said}")
    while tally.count < kills:
        work = fresh(folder / f"build-{tally.builds}")
        killed_build(work, whole, min(KILLS_OF_ONE_BUILD, kills - tally.count), random, tally)
        tally.builds += 1
        tally.wrong += differences(first, work)
        tally.strays += len(list((work / "tmp").iterdir()))
        print(f"{tally.count} of {kills} kills, {len(tally.wrong)} faults", file=sys.stderr)


def killed_build(
    work: Path, whole: Run, kills: int, random: np.random.Generator, tally: Tally
) -> None:
    """Kill a build so many times, or fewer if it is quicker, and let it end."""
    seconds, operations = whole.seconds, whole.operations
    for _ in range(kills):
        kill = random_kill(seconds, operations, random)
        run = build(work, kill)
        if run.code == 0:
            return
        tally.kills[kill.name] += 1
        tally.wrong += wrong_end(run, kill)
        for what, fault in damage(work):
            tally.whole += 1
            if fault:
                tally.wrong.append(f"{kill.name}: {what}: {fault}")
        seconds, operations = max(0.0, seconds - run.seconds), max(1, operations - run.operations)
    run = build(work)
    if run.code:
        tally.wrong.append(f"resumed: ended with {run.code}: {run.said[-300:]}")


def random_kill(seconds: float, operations: int, random: np.random.Generator) -> Kill:
    """Return one for a moment within so many seconds, or before one of so many operations."""
    if random.random() < 0.5:
        return Kill(signal.SIGKILL, operation=int(random.integers(1, operations + 1)))
    chosen = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[int(random.integers(0, 3))]
    return Kill(chosen, seconds=float(random.uniform(0, seconds)))


def build(work: Path, kill: Kill | None = None) -> Run:
    """Run a build in the folder ``work``, and kill it on the way."""
    counter = mmap.mmap(-1, 8)  # shared with the fork
    process = os.fork()
    if not process:
        _in_fork(work, counter, kill.operation if kill else 0)
    if kill and kill.seconds is not None:
        _wait_until(process, kill.seconds)
        os.kill(process, kill.signal)  # of no effect on a process that has ended
    _, status, usage = os.wait4(process, 0)
    return Run(
        code=os.waitstatus_to_exitcode(status),
        seconds=usage.ru_utime + usage.ru_stime,
        operations=struct.unpack("q", counter[:])[0],
        said=(work.parent / f"{work.name}.said").read_text(errors="replace"),
    )


def _wait_until(process: int, seconds: float) -> None:
    """Return once the process has used so much processor time, or has ended."""
    stat = Path(f"/proc/{process}/stat")
    while True:
        state, *numbers = stat.read_text().rpartition(") ")[2].split()
        if state == "Z" or sum(map(int, numbers[10:12])) >= seconds * os.sysconf("SC_CLK_TCK"):
            return
        time.sleep(0.001)


def wrong_end(run: Run, kill: Kill) -> Iterator[str]:
    """Yield what is wrong with how a killed process ended."""
    expected = INTERRUPTED if kill.signal == signal.SIGINT else -kill.signal
    if run.code != expected:
        yield f"{kill.name}: ended with {run.code}: {run.said[-300:]}"
    elif kill.signal == signal.SIGINT and len(run.said.splitlines()) != 1:
        yield f"{kill.name}: said {run.said[-300:]}"


def damage(work: Path) -> Iterator[tuple[str, str]]:
    """Yield everything that has a final name, with what is wrong with it, or nothing."""
    for entry in _finished(work / "cache"):
        yield entry.name, _result_fault(entry)
    for entry in _finished(work / "out"):
        yield entry.name, verify_bundle(entry).fault or ""


def differences(first: Path, second: Path) -> Iterator[str]:
    """Yield how a build that was killed differs in the end from one that was not."""
    names, others = _names(first), _names(second)
    yield from (f"{name} is left over" for name in sorted(others - names))
    yield from (f"{name} is missing" for name in sorted(names - others))
    for bundle in _finished(first / "out"):
        for name in SAME:
            other = second / "out" / bundle.name / name
            if not other.is_file() or sha256_of(other) != sha256_of(bundle / name):
                yield f"{name} has other bytes"
    yield from (f"{what}: {fault}" for what, fault in damage(second) if fault)


def _in_fork(work: Path, counter: mmap.mmap, last: int) -> None:
    """Never return: be the program, and die before the file operation number ``last``."""
    said = os.open(f"{work}.said", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(work)
    os.environ["TMPDIR"] = str(work / "tmp")
    tempfile.tempdir = None
    folders = tuple(str(work / name) for name in FOLDERS)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event not in EVENTS or not str(work / str(arguments[0])).startswith(folders):
            return
        count = struct.unpack("q", counter[:])[0] + 1
        counter[:] = struct.pack("q", count)
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    code = 1
    try:
        from exporter.cli import app

        app(list(COMMAND))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _finished(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _result_fault(folder: Path) -> str:
    """Return what is wrong with a stage's result: all files that it names must be as it says."""
    try:
        result = json.loads((folder / RESULT).read_text())
    except (OSError, ValueError) as error:
        return f"{RESULT}: {error}"
    for path, sha256 in _named(result):
        file = folder / path
        if not file.is_file() or sha256_of(file) != sha256:
            return f"{path} is not what {RESULT} says"
    return ""


def _named(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if value.keys() == {"path", "sha256"}:
            yield value["path"], value["sha256"]
        else:
            for item in value.values():
                yield from _named(item)
    elif isinstance(value, list):
        for item in value:
            yield from _named(item)


def _names(work: Path) -> set[str]:
    return {
        str(entry.relative_to(work)) for folder in FOLDERS for entry in (work / folder).rglob("*")
    }


if __name__ == "__main__":
    main()
