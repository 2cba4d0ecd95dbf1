"""What all trials of a search share: images, dense networks, and the yardstick for time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from exporter.artifacts import Artifact, Cache
from exporter.checkpoint import restore
from exporter.config import BuildConfig
from exporter.data.load import load_splits
from exporter.data.splits import Split
from exporter.pipeline import networks, quantized_model
from exporter.pruning.layer_times import machine_key
from exporter.ship import shipped_for
from exporter.targets import Target
from exporter.training.dense import normalized_data
from exporter.training.train import default_epochs
from exporter.tuning.plan import Planner
from exporter.tuning.space import Values, with_choices, with_width
from exporter.tuning.turn import turn
from exporter.verification.accuracy import accuracy
from exporter.verification.latency import measure_latency
from exporter.verification.predict import predict

YARDSTICK, CANDIDATE = "yardstick", "candidate"


@dataclass(frozen=True, kw_only=True, slots=True)
class Dense:
    """A dense network that trials start from."""

    file: Artifact
    macs: int
    top1: float
    """On validation images, in percent."""
    images: int
    """Validation images."""
    finetune_epochs: int
    """What fine-tuning takes where the config leaves it open."""
    planner: Planner


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a trial made."""

    file: Artifact
    top1: float
    """On validation images, in percent."""
    kb: float
    reused: int
    """Stages whose result was there already."""
    stages: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Time:
    """How long a file takes, relative to the yardstick in the same run."""

    ratio: float
    """Time of the yardstick over time of the file."""
    noise: float
    """The file against itself: how far from 1 a ratio of equals was."""
    yardstick_ms: float
    """What the yardstick took in this run."""


@dataclass(kw_only=True)
class Bench:
    """Makes and measures candidates, each with a cache of its own on the same folder."""

    config: BuildConfig
    target: Target
    cache: Path
    machine: str = field(default_factory=machine_key)
    """Times that were measured on another one are no match for those of this one."""
    _dense: dict[str, Dense] = field(default_factory=dict)

    def dense(self, values: Values) -> Dense:
        """Return the dense network that ``values`` choose, trained where it isn't yet.

        Raises:
            ExporterError: it cannot be had.
        """
        config = with_width(self.config, values)
        if config.train.widths not in self._dense:
            whole = dataclasses.replace(
                config, prune=dataclasses.replace(config.prune, prune=0.0, max_macs=0)
            )
            cache = Cache(self.cache)
            made = networks(whole, cache, self.target)
            assert made.trained is not None
            self._dense[config.train.widths] = Dense(
                file=made.dense.file,
                macs=made.dense.macs,
                top1=_top1(cache, made.dense.file, made.data.validation),
                images=made.data.validation.count,
                finetune_epochs=config.train.epochs or default_epochs(made.data.train.count),
                planner=Planner(
                    dense=restore(made.trained),
                    contract=made.data.contract,
                    target=self.target,
                    cache=self.cache,
                ),
            )
        return self._dense[config.train.widths]

    def configured(self, values: Values) -> BuildConfig:
        """Return the build that ``values`` choose; trains its dense network where it isn't yet."""
        return with_choices(self.config, values, self.dense(values).macs)

    def make(self, config: BuildConfig) -> Made:
        """Build ``config`` up to the file that would ship, and judge it on validation images.

        Raises:
            ExporterError: it cannot be built.
        """
        cache = Cache(self.cache)
        found = networks(config, cache, self.target)
        int8 = None
        if self.target.scheme == "int8":
            int8, _ = quantized_model(config, cache, self.target, found.small, found.data)
        file = shipped_for(cache, self.target, int8 or found.small).file
        top1 = _top1(cache, file, found.data.validation)
        return Made(
            file=file,
            top1=top1,
            kb=file.path.stat().st_size / 1000,
            reused=sum(run.cached for run in cache.runs),
            stages=len(cache.runs),
        )

    def time(self, file: Artifact, yardstick: Artifact) -> Time:
        """Time ``file`` and ``yardstick`` in turns, while no other search on this machine does.

        Raises:
            GraphError: a file does not load.
        """
        data = normalized_data(load_splits(Cache(self.cache), self.config.data), self.config.train)
        image = np.load(data.validation.images.path, mmap_mode="r")[0].copy()
        with turn():
            found = measure_latency(
                self.config.verify,
                {YARDSTICK: yardstick, CANDIDATE: file},
                image,
                baseline=YARDSTICK,
                candidate=CANDIDATE,
            )
        return Time(
            ratio=found.speedup.value,
            noise=found.same_file.farthest,
            yardstick_ms=found.timings[YARDSTICK].p50_ms,
        )


def _top1(cache: Cache, file: Artifact, validation: Split) -> float:
    _, labels = validation.arrays()
    return accuracy(np.load(cache.run(predict, file, validation).logits.path), labels).top1
