"""From a float network to the int8 file that the options ask for."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.artifacts import Cache
from exporter.config import NO_LAYERS, BuildConfig
from exporter.data.splits import Splits
from exporter.graph.model import OnnxModel
from exporter.mixed.choose import float_layers, with_stem
from exporter.quantization.aware.learn import rounding_lesson, with_learned_rounding
from exporter.quantization.calibrate import calibrate
from exporter.quantization.choose import choose_ranges
from exporter.quantization.corrections.apply import corrected, rescaled
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.recovery.recover import recover
from exporter.recovery.rungs import Rungs
from exporter.report.float_layers import FloatLayersReport
from exporter.report.recovery import RecoveryReport
from exporter.targets import Target
from exporter.training.loop import Lesson
from exporter.training.train import default_epochs, lesson_of

SHARE_OF_TRAINING = 4
"""Quantization-aware fine-tuning of the ladder takes training's default epochs over this."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantized:
    """An int8 model, and how it was made."""

    int8: QuantizedModel
    images: int
    """Calibration images."""
    aware_epochs: int
    """Epochs of quantization-aware fine-tuning."""
    corrections: tuple[str, ...]
    recovery: RecoveryReport | None
    """What was tried, where that was to be found out."""
    float_layers: FloatLayersReport | None
    """Layers that stay float whatever the accuracy, where there may be some."""


def quantized(
    config: BuildConfig, cache: Cache, target: Target, model: OnnxModel, data: Splits
) -> Quantized:
    """Return the int8 model of ``model`` with the corrections asked for, or with those that help.

    Raises:
        ConfigError: layers are to stay float that cannot be found here.
        GraphError, CoverageError: it cannot be quantized.
    """
    if config.correct.recover == "auto":
        return _recovered(config, cache, target, model, data)
    model = rescaled(cache, config.correct, model)
    ranges = cache.run(calibrate, config.calibrate, model, data.calibration)
    int8 = choose_ranges(cache, target, model, ranges, data.validation)
    method = int8.method
    kept = float_layers(config.quantize, cache, target, model, ranges, method, data.validation)
    if kept is not None and kept.layers:
        int8 = cache.run(quantize, target, model, ranges.by_method[method], method, kept.layers)
    epochs = config.correct.aware_epochs
    if epochs:
        model, ranges, int8 = with_learned_rounding(
            cache, _lesson(config, data, epochs), target, model, ranges, int8, data
        )
    int8 = corrected(cache, config.correct, target, model, ranges, int8, data.calibration)
    return Quantized(
        int8=with_stem(cache, target, int8, kept),
        images=ranges.images,
        aware_epochs=epochs,
        corrections=config.correct.chosen,
        recovery=None,
        float_layers=kept,
    )


def _recovered(
    config: BuildConfig, cache: Cache, target: Target, model: OnnxModel, data: Splits
) -> Quantized:
    epochs = config.correct.aware_epochs or default_epochs(data.train.count) // SHARE_OF_TRAINING
    kept = None
    if config.quantize.float_layers != NO_LAYERS:
        ranges = cache.run(calibrate, config.calibrate, model, data.calibration)
        method = choose_ranges(cache, target, model, ranges, data.validation).method
        kept = float_layers(config.quantize, cache, target, model, ranges, method, data.validation)
    rungs = Rungs(
        cache=cache,
        target=target,
        calibration=config.calibrate,
        model=model,
        data=data,
        lesson=_lesson(config, data, epochs),
        float_layers=kept.layers if kept else (),
    )
    found = recover(rungs, config.correct.recover_drop)
    return Quantized(
        int8=with_stem(cache, target, found.solution.int8, kept),
        images=found.solution.ranges.images,
        aware_epochs=found.solution.aware_epochs,
        corrections=found.solution.corrections,
        recovery=found.report,
        float_layers=kept,
    )


def _lesson(config: BuildConfig, data: Splits, epochs: int) -> Lesson:
    recipe = lesson_of(config.train, data, learning_rate=0.0, label_smoothing=0.0)
    return rounding_lesson(recipe, epochs)
