"""Stage: which layers make an int8 file slower than it would be if they stayed float.

Integer kernels are not always the faster ones: convolutions with 3 inputs, depthwise and grouped
ones may take longer than in float. A layer in float costs conversions around it, too, so what its
own time promises is not what the file gains. The profile of both files therefore only says what to
try; kept is what makes the whole file faster and loses no validation image. One change at a time,
the most promising first, each beside all that was kept before it.

First of all the stem may read 4 channels in place of 3 (``exporter.mixed.padded_stem``); in float
it must then be faster than that.

Times differ from run to run, so a decision that is within their noise leaves the layer an integer
one, and the cache remembers each for this machine: the same recipe gives the same bytes again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporter.artifacts import Artifact
from exporter.data.splits import Split
from exporter.errors import GraphError
from exporter.explanation.advice import RESOLUTION_MS
from exporter.explanation.profile import profile_operators
from exporter.explanation.rows import named
from exporter.graph.limits import read_model
from exporter.graph.model import OnnxModel
from exporter.mixed.padded_stem import pad_stem, stem_of
from exporter.mixed.race import THREADS, Race, Racing, racing
from exporter.progress import say, track
from exporter.quantization.layers import layers_of
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.report.float_layers import FloatLayersReport, FloatTrial
from exporter.report.not_measured import NotMeasured
from exporter.targets import Target
from exporter.verification.latency import summarize, time_models
from exporter.verification.predict import predict

VERSION = 1

SLOW = "slow"
PROFILE_SECONDS = 0.6
"""Time spent on both files without profiling."""
MOST = 8
"""At most so many layers are tried in float."""
WORTH_TRYING = 0.005
"""Share of the time of all layers that one must take longer in int8 than in float."""
IN_FLOAT = "left in float"
PADDED = "padded to 4 input channels"
_NOT_FASTER = NotMeasured(not_measured="it is not faster")


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerTimes:
    """What an integer layer takes, and what it takes in the float file, by the profile."""

    name: str
    int8_ms: float
    float_ms: float


Variant = Callable[[tuple[str, ...], bool], Artifact]
"""Layers in float, whether the stem is padded -> the file; raises GraphError if it can't be."""


def find_slow_layers(
    out: Path,
    target: Target,
    model: OnnxModel,
    ranges: Artifact,
    method: str,
    data: Split,
    machine: str,
) -> FloatLayersReport:
    """Return what to leave in float, and whether to pad the stem, for speed on this machine.

    Args:
        out: folder of the stage; nothing is left in it.
        target: what the file is for.
        model: the float model.
        ranges: a file of ``calibration.Ranges`` that was measured on ``model``.
        method: name of the method that chose them.
        data: validation images.
        machine: ``layer_times.machine_key()``; part of the cache's key.

    Raises what ``quantize`` raises.
    """
    images, labels = data.arrays()
    with tempfile.TemporaryDirectory(dir=out) as folder:
        variants = _Variants(Path(folder), target, model, ranges, method)
        first = variants.quantized(())
        stem = stem_of(read_model(first.file.path))

        def profile(file: Artifact) -> Sequence[LayerTimes]:
            return layer_times(file, model.file, np.array(images[0]))

        def correct(file: Artifact) -> int:
            logits = np.load(predict(variants.folder(), file, data).logits.path)
            return int((logits.argmax(1) == labels).sum())

        search = Search(
            file=variants.file, race=racing(np.array(images[0])), correct=correct, profile=profile
        )
        search.run(stem)
        return search.report(
            len(labels), [layer.name for layer in layers_of(read_model(model.file.path))]
        )


def layer_times(
    int8: Artifact, floating: Artifact, image: NDArray[np.uint8]
) -> Sequence[LayerTimes]:
    """Return the times of the integer layers of a file, in graph order."""
    files = {"int8": int8, "float": floating}
    rng = np.random.default_rng(0)
    blocks, _ = time_models(files, image, rng, threads=THREADS, seconds=PROFILE_SECONDS)
    times = {}
    for name, file in files.items():
        run_ms = summarize(blocks[name]).p50_ms
        operators = profile_operators(file, image, run_ms, threads=THREADS)
        times[name] = dict(named(operators, read_model(file.path)))
    return [
        LayerTimes(name=name, int8_ms=times["int8"][name].ms, float_ms=times["float"][name].ms)
        for name in (layer.name for layer in layers_of(read_model(floating.path)))
        if name in times["int8"] and times["int8"][name].integer and name in times["float"]
    ]


def slow_layers(layers: Sequence[LayerTimes]) -> list[LayerTimes]:
    """Return those worth trying in float, the one that is slower by most first."""
    least = max(RESOLUTION_MS, WORTH_TRYING * sum(layer.int8_ms for layer in layers))
    worse = [layer for layer in layers if layer.int8_ms - layer.float_ms > least]
    return sorted(worse, key=lambda layer: layer.float_ms - layer.int8_ms)[:MOST]


@dataclass(kw_only=True, slots=True)
class Search:
    """What has been tried and kept so far."""

    file: Variant
    race: Racing
    correct: Callable[[Artifact], int]
    """Validation images that a file classifies right."""
    profile: Callable[[Artifact], Sequence[LayerTimes]]
    floats: tuple[str, ...] = ()
    padded: str | None = None
    trials: list[FloatTrial] = field(default_factory=list)

    def run(self, stem: str | None) -> None:
        """Try padding the ``stem``, if there is one to pad, then layers in float."""
        layers = self.profile(self.file((), False))
        first = [layer for layer in layers if layer.name == stem]
        if first and self._try(first[0], PADDED, (), True):
            self.padded = stem
            layers = self.profile(self.file((), True))
        slow = slow_layers(layers)
        with track("Trying layers in float", total=len(slow)) as advance:
            for layer in slow:
                still_padded = self.padded not in (None, layer.name)
                if self._try(layer, IN_FLOAT, (*self.floats, layer.name), still_padded):
                    self.floats = (*self.floats, layer.name)
                    self.padded = self.padded if still_padded else None
                advance(1, layer.name)

    def report(self, images: int, order: Sequence[str]) -> FloatLayersReport:
        """Return the report; ``order`` is that of the layers in the graph."""
        plain = self.file((), False)
        total: Race | None = None
        if self.floats or self.padded:
            total = self.race(plain, self.file(self.floats, self.padded is not None))
        return FloatLayersReport(
            asked=SLOW,
            layers=tuple(name for name in order if name in self.floats),
            padded_stem=self.padded,
            images=images,
            correct=self.correct(plain),
            trials=tuple(self.trials),
            time_ratio=None if total is None else total.ratio.value,
            time_ratio_ci=None if total is None else (total.ratio.low, total.ratio.high),
        )

    def _try(self, layer: LayerTimes, change: str, floats: tuple[str, ...], padded: bool) -> bool:
        """Return whether the file with a change is to be kept, and put that on record."""
        champion = self.file(self.floats, self.padded is not None)
        race: Race | None = None
        correct: int | NotMeasured = _NOT_FASTER
        kept, reason = False, ""
        try:
            challenger = self.file(floats, padded)
            race = self.race(champion, challenger)
            if race.won:
                correct = self.correct(challenger)
                kept = correct >= self.correct(champion)
        except GraphError as error:
            reason = str(error)
        self.trials.append(
            FloatTrial(
                layer=layer.name,
                change=change,
                int8_ms=layer.int8_ms,
                float_ms=layer.float_ms if change == IN_FLOAT else None,
                time_ratio=race.ratio.value if race else NotMeasured(not_measured=reason),
                time_ratio_ci=(race.ratio.low, race.ratio.high) if race else None,
                noise=race.noise if race else None,
                correct=correct,
                kept=kept,
            )
        )
        if race is not None:
            say(
                f"{layer.name} {change}: {race.ratio.value:.3f} times the time, "
                f"{'kept' if kept else 'not kept'}."
            )
        return kept


class _Variants:
    """The files that differ in what is float, each made once."""

    def __init__(
        self, root: Path, target: Target, model: OnnxModel, ranges: Artifact, method: str
    ) -> None:
        self._root, self._target = root, target
        self._inputs = model, ranges, method
        self._known: dict[tuple[frozenset[str], bool], Artifact] = {}
        self._quantized: dict[frozenset[str], QuantizedModel] = {}

    def folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._root))

    def quantized(self, floats: tuple[str, ...]) -> QuantizedModel:
        key = frozenset(floats)
        if key not in self._quantized:
            made = quantize(self.folder(), self._target, *self._inputs, floats)
            self._quantized[key] = made
        return self._quantized[key]

    def file(self, floats: tuple[str, ...], padded: bool) -> Artifact:
        key = frozenset(floats), padded
        if key not in self._known:
            made = self.quantized(floats)
            if padded:
                made = pad_stem(self.folder(), self._target, made)
            self._known[key] = made.file
        return self._known[key]
