"""Any finished models side by side: on the same images, and on the clock in one interleaved run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporter.artifacts import Artifact, Cache
from exporter.config import DataConfig, VerifyConfig
from exporter.data.load import load_splits
from exporter.data.splits import Split
from exporter.errors import ConfigError, GraphError
from exporter.option import check_limits
from exporter.report.model import Machine, NotMeasured
from exporter.verification.accuracy import accuracy, compare
from exporter.verification.class_names import check_class_names
from exporter.verification.latency import AGAIN, Timing, summarize, time_models
from exporter.verification.machine import describe_machine
from exporter.verification.paired import paired_ratio
from exporter.verification.predict import predict


@dataclass(frozen=True, kw_only=True, slots=True)
class AgainstFirst:
    """A model against the first one, on the same images and in the same rounds."""

    drop_points: float
    """Top-1 of the first minus its own, in percentage points."""
    drop_ci: tuple[float, float]
    """95 % confidence interval of drop_points."""
    lost: int
    """Images that only the first classifies correctly."""
    gained: int
    """Images that only this one classifies correctly."""
    mcnemar_p: float
    """Exact McNemar test, times the number of comparisons (Bonferroni), at most 1."""
    changed_share: float
    """Share of predictions that differ, 0 to 1."""
    speedup: float
    """Time of the first over its own: median of paired blocks."""
    speedup_ci: tuple[float, float]
    """95 % confidence interval of speedup."""
    beyond_noise: bool
    """Whether the whole interval lies outside the noise of this run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contestant:
    """One model."""

    path: str
    sha256: str
    bytes: int
    top1: float
    """In percent."""
    correct: int
    p50_ms: float
    p50_ci_ms: tuple[float, float]
    p90_ms: float
    p99_ms: float | NotMeasured
    runs: int
    against_first: AgainstFirst | None
    """None for the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SideBySide:
    """Models that were compared, the first being the yardstick."""

    models: tuple[Contestant, ...]
    source: str
    """Where the images come from."""
    images: int
    """Test images."""
    noise: float
    """Noise floor: the first file was timed twice, as if it were two models; the end of that
    ratio's 95 % confidence interval farther from 1."""
    threads: int
    pinned_cores: tuple[int, ...] | NotMeasured
    machine: Machine


def compare_files(
    paths: Sequence[Path], data: DataConfig, config: VerifyConfig, cache: Cache
) -> SideBySide:
    """Return how the models at ``paths`` do against the first of them.

    Raises:
        ConfigError: fewer than two models, one named twice, or more threads than cores.
        DataError: the test images do not fit a model.
        GraphError: a file is missing, does not load or breaks the contract, or tells other classes
            apart than the data.
    """
    check_limits(config)
    files = _files(paths)
    splits = load_splits(cache, data)
    for file in files.values():
        check_class_names(file, splits.contract.classes)
    images, labels = splits.test.arrays()
    classes = len(splits.contract.classes)
    logits = {path: _logits(cache, file, splits.test, classes) for path, file in files.items()}
    machine = describe_machine()  # before timing adds a load of its own
    first, *_ = files
    rng = np.random.default_rng(0)
    blocks, cores = time_models(
        {**files, AGAIN: files[first]},
        images[0],
        rng,
        threads=config.threads,
        seconds=config.timing_seconds,
    )
    middles = {path: np.median(times, axis=1) for path, times in blocks.items()}
    noise = paired_ratio(middles[AGAIN], middles[first], rng).farthest

    def against_first(path: str) -> AgainstFirst:
        change = compare(logits[first], logits[path], labels)
        speedup = paired_ratio(middles[first], middles[path], rng)
        return AgainstFirst(
            drop_points=change.drop_points,
            drop_ci=change.drop_ci,
            lost=change.flips.right_to_wrong,
            gained=change.flips.wrong_to_right,
            mcnemar_p=min(1.0, change.mcnemar_p * (len(files) - 1)),
            changed_share=change.changed_share,
            speedup=speedup.value,
            speedup_ci=(speedup.low, speedup.high),
            beyond_noise=speedup.beyond(noise),
        )

    return SideBySide(
        models=tuple(
            _contestant(
                file,
                logits[path],
                labels,
                summarize(blocks[path]),
                None if path == first else against_first(path),
            )
            for path, file in files.items()
        ),
        source=splits.source,
        images=len(labels),
        noise=noise,
        threads=config.threads,
        pinned_cores=cores,
        machine=machine,
    )


def _files(paths: Sequence[Path]) -> dict[str, Artifact]:
    if len(paths) < 2:
        raise ConfigError(f"There are {len(paths)} models to compare. Give at least two.")
    for path in paths:
        if not path.is_file():
            raise GraphError(f"{path} is not a file.")
    files = {str(path): Artifact.of(path) for path in paths}
    if len(files) < len(paths):
        raise ConfigError("A model is named twice. Copy the file to compare it with itself.")
    return files


def _logits(cache: Cache, file: Artifact, data: Split, classes: int) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = np.load(cache.run(predict, file, data).logits.path)
    if logits.shape[1] != classes:
        raise GraphError(
            f"{file.path} tells {logits.shape[1]} classes apart, but the data has {classes}."
        )
    return logits


def _contestant(
    file: Artifact,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    timing: Timing,
    against_first: AgainstFirst | None,
) -> Contestant:
    found = accuracy(logits, labels)
    return Contestant(
        path=str(file.path),
        sha256=file.sha256,
        bytes=file.path.stat().st_size,
        top1=found.top1,
        correct=found.correct,
        p50_ms=timing.p50_ms,
        p50_ci_ms=timing.p50_ci_ms,
        p90_ms=timing.p90_ms,
        p99_ms=timing.p99_ms,
        runs=timing.runs,
        against_first=against_first,
    )
