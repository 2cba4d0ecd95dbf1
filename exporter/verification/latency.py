"""Times of several models, measured so that they can be compared.

All sessions live in one process and are timed in turns: a round holds one block of runs per model,
in random order. A disturbance (another program, a lower clock) then meets all of them alike and
cancels in the ratio of a round's blocks. The process is pinned to one core per thread, the garbage
collector is off, and every block starts with a run that is not timed, because the model before has
left its own weights in the cache.

One file is opened and timed twice, as if it were two models (A/A). How far the ratio of the two is
from 1 is the noise floor: two sessions of the same bytes differ by where their memory happened to
be placed, and no interval of a single ratio shows that.

A time includes the call from Python, 5 to 10 microseconds.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.artifacts import Artifact
from exporter.config import VerifyConfig
from exporter.contract import INPUT_NAME, OUTPUT_NAME
from exporter.progress import track
from exporter.report.model import NotMeasured
from exporter.verification.paired import Ratio, median_interval, paired_ratio
from exporter.verification.pinning import pinned
from exporter.verification.session import open_session

WARMUP_RUNS = 50
WARMUP_SHARE = 0.2
"""Share of the measuring time that warming up may take at most, all models together ..."""
WARMUP_MIN_RUNS = 3
"""... but each model runs this often at least."""
BLOCK_RUNS = 20
"""Timed runs of a block; fewer where models are slow, more where that would give too many."""
FEW_ROUNDS, MANY_ROUNDS = 100, 2000
"""Blocks are shortened below the first number of rounds and lengthened above the second."""
MIN_ROUNDS = 10
"""Rounds that are made whatever the time: a median of fewer says too little."""
AGAIN = " again"
"""Name of the session that opens the candidate's file a second time."""
RUNS_BEYOND = 10
"""Single runs that must lie beyond a percentile before it is told."""

Clock = Callable[[], int]
Blocks = Mapping[str, NDArray[np.int64]]
"""By model: nanoseconds of single runs, ``[rounds, runs of a block]``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Times of one model, run by run."""

    p50_ms: float
    p50_ci_ms: tuple[float, float]
    """95 % confidence interval of the median, from the medians of the blocks."""
    p90_ms: float
    p99_ms: float | NotMeasured
    runs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Times of several models on the same cores."""

    timings: Mapping[str, Timing]
    speedup: Ratio
    """Time of the baseline over time of the candidate, with a 95 % confidence interval."""
    speedup_bound: float
    """Lower end of its interval at the confidence that is asked for, else of the same one."""
    same_file: Ratio
    """The candidate's file against itself: the noise of this run."""
    pinned_cores: tuple[int, ...] | NotMeasured


def measure_latency(
    config: VerifyConfig,
    models: Mapping[str, Artifact],
    image: NDArray[np.uint8],
    *,
    baseline: str,
    candidate: str,
    batch: int = 1,
) -> Latency:
    """Return the times of all ``models``, and how much faster ``candidate`` is than ``baseline``.

    Args:
        config: the threads of a run, the seconds to spend, and the confidence of the bound.
        models: the .onnx files by name.
        image: what is classified, ``uint8 [H, W, C]``.
        baseline: name of the model that is the yardstick.
        candidate: name of the model that should be faster.
        batch: copies of the image that are classified in one run.

    Raises:
        ConfigError: more threads than cores.
        GraphError: a file does not load or breaks the contract.
    """
    rng = np.random.default_rng(0)
    files = {**models, AGAIN: models[candidate]}
    blocks, cores = time_models(
        files, image, rng, threads=config.threads, seconds=config.timing_seconds, batch=batch
    )
    middles = {name: np.median(times, axis=1) for name, times in blocks.items()}
    slow, fast = middles[baseline], middles[candidate]
    return Latency(
        timings={name: summarize(blocks[name]) for name in models},
        speedup=paired_ratio(slow, fast, rng),
        speedup_bound=paired_ratio(slow, fast, rng, config.confidence or 0.95).low,
        same_file=paired_ratio(middles[AGAIN], fast, rng),
        pinned_cores=cores,
    )


def time_models(
    models: Mapping[str, Artifact],
    image: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    threads: int,
    seconds: float,
    batch: int = 1,
) -> tuple[Blocks, tuple[int, ...] | NotMeasured]:
    """Return all single times of the files by name, and the cores that they ran on.

    Args:
        models: the files by name.
        image: what is classified, ``uint8 [H, W, C]``.
        rng: shuffles the turns.
        threads: threads of a run.
        seconds: time to spend, all files together.
        batch: copies of the image that are classified in one run.

    Raises:
        ConfigError: more threads than cores.
        GraphError: a file does not load or breaks the contract.
    """
    feed = {INPUT_NAME: np.repeat(image[np.newaxis], batch, axis=0)}
    # With several threads, a pool goes on spinning for milliseconds after its run and would take
    # the cores of the next model. Stopping it makes every run pay for waking its threads.
    settings = {"session.force_spinning_stop": "1"}
    with pinned(threads) as cores:  # the sessions' threads inherit the cores
        sessions = {
            name: open_session(model, threads=threads, settings=settings)
            for name, model in models.items()
        }
        subjects = {name: _runner(session.run, feed) for name, session in sessions.items()}
        return time_blocks(subjects, seconds, rng), cores


def summarize(times_ns: NDArray[np.int64]) -> Timing:
    """Return percentiles of single runs, given in nanoseconds as ``[rounds, runs of a block]``."""
    p50, p90, p99 = (float(value) for value in np.percentile(times_ns, [50, 90, 99]) / 1e6)
    middles = np.median(times_ns, axis=1) / 1e6
    missing = too_few(99, times_ns.size)
    return Timing(
        p50_ms=p50,
        p50_ci_ms=median_interval(middles, np.random.default_rng(0)),
        p90_ms=p90,
        p99_ms=p99 if missing is None else missing,
        runs=times_ns.size,
    )


def too_few(percentile: int, runs: int) -> NotMeasured | None:
    """Return why so many runs do not support a percentile; None where they do."""
    needed = RUNS_BEYOND * 100 // (100 - percentile)
    if runs >= needed:
        return None
    return NotMeasured(not_measured=f"{runs} runs; the {percentile}th percentile takes {needed}")


def time_blocks(
    subjects: Mapping[str, Callable[[], object]],
    seconds: float,
    rng: np.random.Generator,
    clock: Clock = time.perf_counter_ns,
) -> Blocks:
    """Run every subject in interleaved blocks for about ``seconds``; returns all single times."""
    names = list(subjects)
    with _without_gc(), track("Timing", total=seconds) as advance:
        round_seconds = sum(
            _warm_up(subjects[name], seconds * WARMUP_SHARE / len(names), clock) for name in names
        )
        runs = runs_per_block(seconds, round_seconds)
        blocks: dict[str, list[list[int]]] = {name: [] for name in names}
        start = now = clock()
        while len(blocks[names[0]]) < MIN_ROUNDS or now - start < seconds * 1e9:
            for index in rng.permutation(len(names)):
                blocks[names[index]].append(_block(subjects[names[index]], runs, clock))
            advance((clock() - now) / 1e9, "")
            now = clock()
    return {name: np.array(times, dtype=np.int64) for name, times in blocks.items()}


def runs_per_block(seconds: float, round_seconds: float) -> int:
    """Return how many timed runs a block should have.

    Args:
        seconds: time that is to be spent.
        round_seconds: time in which every model runs once.
    """
    affordable = seconds / max(round_seconds, 1e-9)
    return max(1, int(min(BLOCK_RUNS, affordable / FEW_ROUNDS)), int(affordable / MANY_ROUNDS))


def _runner(
    run: Callable[[list[str], dict[str, NDArray[np.uint8]]], object],
    feed: dict[str, NDArray[np.uint8]],
) -> Callable[[], object]:
    return lambda: run([OUTPUT_NAME], feed)


def _block(subject: Callable[[], object], runs: int, clock: Clock) -> list[int]:
    subject()
    times = []
    for _ in range(runs):
        start = clock()
        subject()
        times.append(clock() - start)
    return times


def _warm_up(subject: Callable[[], object], seconds: float, clock: Clock) -> float:
    """Run until the caches, the memory pools and the clock rate have settled; seconds of a run."""
    start = clock()
    times: list[int] = []
    while len(times) < WARMUP_RUNS and (
        len(times) < WARMUP_MIN_RUNS or clock() - start < seconds * 1e9
    ):
        times += _block(subject, 1, clock)
    return float(np.median(times)) / 1e9


@contextmanager
def _without_gc() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
