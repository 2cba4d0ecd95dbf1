"""The rungs of the ladder, from what costs seconds to what costs a training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from calibration import METHODS
from exporter.artifacts import Cache
from exporter.config import CORRECTIONS, CalibrationConfig
from exporter.data.splits import Splits
from exporter.errors import GraphError
from exporter.graph.model import OnnxModel
from exporter.quantization.aware.learn import learn_rounding
from exporter.quantization.calibrate import Calibrated, calibrate
from exporter.quantization.choose import choose_ranges
from exporter.quantization.corrections.apply import FLOAT_CORRECTIONS, correct, rescale
from exporter.quantization.per_tensor import PER_TENSOR
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.recovery.fallback import fall_back
from exporter.recovery.ladder import Ladder, Rung, Solution
from exporter.recovery.sensitivity import QuantizationSensitivity, scan_layers
from exporter.targets import Target

if TYPE_CHECKING:
    from exporter.training.loop import Lesson

RESCALED = (("equalize",), ("open-clips", "equalize"))
"""Corrections of the float model that are tried, each alone and with ``bias``."""


@dataclass(kw_only=True, slots=True)
class Rungs:
    """What all rungs work on; the table of them is ``table``."""

    cache: Cache
    target: Target
    calibration: CalibrationConfig
    model: OnnxModel
    """The float model that is quantized."""
    data: Splits
    lesson: Lesson
    """The recipe of quantization-aware fine-tuning."""
    float_layers: tuple[str, ...] = ()
    """Layers that stay float from the start, whatever the ladder does."""
    sensitivity: QuantizationSensitivity | None = field(default=None, init=False)
    """What the scan found, once it was made."""

    @property
    def table(self) -> Mapping[str, Rung]:
        """The rungs by name, in the order in which they are climbed."""
        return {
            "ranges": self.ranges,
            "corrections": self.corrections,
            "rounding": self.rounding,
            "fallback": self.fallback,
            "fine-tuning": self.fine_tuning,
        }

    def ranges(self, ladder: Ladder) -> None:
        """Quantize with the first range method, then with the best of them.

        All are compared even where the first is good enough, as in a build without recovery: what
        needs no recovery must be the same file.
        """
        ranges = self.cache.run(calibrate, self.calibration, self.model, self.data.calibration)
        first = min(ranges.by_method, key=[*METHODS, PER_TENSOR].index)
        ladder.keep_if_better(
            ladder.attempt(first, lambda: self._solution(self.model, ranges, first))
        )
        if len(ranges.by_method) > 1:
            what = f"the best of {len(ranges.by_method)} methods"
            ladder.keep_if_better(ladder.attempt(what, lambda: self._chosen(self.model, ranges)))

    def corrections(self, ladder: Ladder) -> None:
        """Correct biases; equalise channels and do both; the same with open clips."""
        start = ladder.best.solution
        biased = ladder.attempt("bias", lambda: self._again(start, corrections=("bias",)))
        if ladder.keep_if_better(biased):
            return
        seen = {self.model.file.sha256}
        for names in RESCALED:
            what = ", ".join(names)
            even = ladder.attempt(what, partial(self._rescaled, names, seen))
            if even is None:
                continue
            if ladder.keep_if_better(even):
                return
            both = (*names, "bias")
            remake = partial(self._again, even.solution, corrections=both)
            if ladder.keep_if_better(ladder.attempt(f"{what}, bias", remake)):
                return

    def rounding(self, ladder: Ladder) -> None:
        """Round weights adaptively, with what was kept of the corrections."""
        start = ladder.best.solution
        names = tuple(n for n in CORRECTIONS if n == "adaround" or n in start.corrections)
        what = ", ".join(names)
        ladder.keep_if_better(ladder.attempt(what, lambda: self._again(start, corrections=names)))

    def fallback(self, ladder: Ladder) -> None:
        """Leave the layers in float whose quantization the outputs suffer from most."""
        start = ladder.best.solution
        scan = self.cache.run(
            scan_layers,
            self.target,
            start.model,
            start.ranges.by_method[start.int8.method],
            self.data.calibration,
        )
        self.sensitivity = dataclasses.replace(
            scan,
            layers=tuple(found for found in scan.layers if found.layer not in start.float_layers),
        )
        fall_back(ladder, self.sensitivity, partial(self._with_float, start))

    def fine_tuning(self, ladder: Ladder) -> None:
        """Let the weights learn to be rounded; then correct biases; then with what fell back.

        The first two have all layers as integers: the float layers of the rung before cost time,
        and may no longer be needed.
        """
        best = ladder.best.solution
        epochs = self.lesson.epochs
        what = "1 epoch" if epochs == 1 else f"{epochs} epochs"
        learned = ladder.attempt(what, lambda: self._learned(best))
        if learned is None or ladder.keep_if_better(learned):
            return
        start = learned.solution
        biased = ladder.attempt(
            f"{what}, bias",
            lambda: self._again(start, corrections=(*start.corrections, "bias")),
        )
        if ladder.keep_if_better(biased) or best.float_layers == self.float_layers:
            return
        ladder.keep_if_better(
            ladder.attempt(
                f"{what}, {len(best.float_layers)} in float",
                lambda: self._again(start, float_layers=best.float_layers),
            )
        )

    def in_integers(self, solution: Solution) -> Solution:
        """Return ``solution`` without the layers that fell back."""
        return self._again(solution, float_layers=self.float_layers)

    def _solution(self, model: OnnxModel, ranges: Calibrated, method: str) -> Solution:
        int8 = self._quantized(model, ranges, method, (), self.float_layers)
        return Solution(model=model, ranges=ranges, int8=int8, float_layers=self.float_layers)

    def _chosen(self, model: OnnxModel, ranges: Calibrated) -> Solution:
        best = choose_ranges(self.cache, self.target, model, ranges, self.data.validation)
        return self._solution(model, ranges, best.method)

    def _rescaled(self, names: tuple[str, ...], seen: set[str]) -> Solution:
        model = self.cache.run(rescale, names, self.model)
        if model.file.sha256 in seen:
            raise GraphError("there is nothing in this network that it would change.")
        seen.add(model.file.sha256)
        ranges = self.cache.run(calibrate, self.calibration, model, self.data.calibration)
        return dataclasses.replace(self._chosen(model, ranges), corrections=names)

    def _with_float(self, start: Solution, layers: tuple[str, ...]) -> Solution:
        more = (*start.float_layers, *(name for name in layers if name not in start.float_layers))
        return self._again(start, float_layers=more)

    def _learned(self, start: Solution) -> Solution:
        """Fine-tune from the float model of ``start``, and from ranges that nothing corrected."""
        method = start.int8.method
        plain = self._quantized(start.model, start.ranges, method, (), self.float_layers)
        own = start.ranges.by_method[method]
        learned = self.cache.run(learn_rounding, self.lesson, start.model, plain, own, self.data)
        model = learned.model
        ranges = dataclasses.replace(start.ranges, by_method={method: learned.ranges})
        int8 = self._quantized(model, ranges, method, (), self.float_layers)
        return Solution(
            model=model,
            ranges=ranges,
            int8=int8,
            corrections=tuple(n for n in start.corrections if n in FLOAT_CORRECTIONS),
            float_layers=self.float_layers,
            aware_epochs=self.lesson.epochs,
        )

    def _again(
        self,
        start: Solution,
        *,
        corrections: tuple[str, ...] | None = None,
        float_layers: tuple[str, ...] | None = None,
    ) -> Solution:
        """Return ``start`` quantized with other corrections or other float layers."""
        chosen = start.corrections if corrections is None else corrections
        layers = start.float_layers if float_layers is None else float_layers
        int8 = self._quantized(start.model, start.ranges, start.int8.method, chosen, layers)
        return dataclasses.replace(start, int8=int8, corrections=chosen, float_layers=layers)

    def _quantized(
        self,
        model: OnnxModel,
        ranges: Calibrated,
        method: str,
        corrections: tuple[str, ...],
        float_layers: tuple[str, ...],
    ) -> QuantizedModel:
        artifact = ranges.by_method[method]
        if set(corrections) - FLOAT_CORRECTIONS:
            return self.cache.run(
                correct,
                corrections,
                self.target,
                model,
                artifact,
                method,
                self.data.calibration,
                float_layers,
            )
        if float_layers:
            return self.cache.run(quantize, self.target, model, artifact, method, float_layers)
        return self.cache.run(quantize, self.target, model, artifact, method)
