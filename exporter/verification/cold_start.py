"""What a fresh process takes until its first answer, and how much memory it holds at most.

Each start is a process of its own, because memory that a process once had stays counted, and the
second session of a process finds libraries, pages and CPU caches warm. The models take turns. The
file itself is in the system's page cache: what a disk adds is not measured.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from statistics import median

from exporter.artifacts import Artifact
from exporter.errors import GraphError
from exporter.progress import track
from exporter.report.evidence import ColdStart
from exporter.report.model import NotMeasured
from exporter.verification import start_once
from exporter.verification.pinning import pinned

STARTS = 5
TIMEOUT_SECONDS = 300


def measure_starts(
    models: Mapping[str, Artifact], *, threads: int, starts: int = STARTS
) -> tuple[ColdStart, ...]:
    """Return load time, time of the first image and peak memory of each model.

    Args:
        models: the files by name.
        threads: threads of ONNX Runtime, each on a core.
        starts: processes for each model; the medians are returned.

    Raises:
        ConfigError: more threads than cores.
        GraphError: a process failed.
    """
    found: dict[str, list[dict[str, int | None]]] = {name: [] for name in models}
    with pinned(threads), track("Starting processes", total=starts * len(models)) as advance:
        for _ in range(starts):
            for name, model in models.items():
                found[name].append(_start(model, threads))
                advance(1, "")
    return tuple(_summarize(name, runs) for name, runs in found.items())


def _start(model: Artifact, threads: int) -> dict[str, int | None]:
    # -P: the program must not find our modules in place of the standard library's.
    command = [sys.executable, "-P", start_once.__file__, str(model.checked()), str(threads)]
    failed = f"{model.path} cannot be run in a process of its own"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise GraphError(f"{failed}: no answer within {TIMEOUT_SECONDS} s.") from None
    if done.returncode < 0:
        raise GraphError(
            f"{failed}: {signal.Signals(-done.returncode).name} ended it. If that was for want of "
            "memory, end other programs, or leave out --thorough."
        )
    if done.returncode:
        raise GraphError(f"{failed}: {done.stderr.strip().splitlines()[-1]}")
    answer: dict[str, int | None] = json.loads(done.stdout)
    return answer


def _summarize(name: str, runs: list[dict[str, int | None]]) -> ColdStart:
    def middle(key: str) -> float:
        return float(median(run[key] or 0 for run in runs))

    peak: int | NotMeasured = NotMeasured(not_measured="this system does not tell")
    added = peak
    if all(run["peak_bytes"] is not None for run in runs):
        peak = int(middle("peak_bytes"))
        added = max(0, peak - int(middle("before_bytes")))
    return ColdStart(
        model=name,
        starts=len(runs),
        session_ms=middle("session_ns") / 1e6,
        first_run_ms=middle("first_run_ns") / 1e6,
        peak_bytes=peak,
        added_bytes=added,
    )
