"""The stages that correct: one before activations are measured, one after the ranges are chosen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from onnx import ModelProto

from exporter.artifacts import Artifact, Cache
from exporter.config import CorrectionConfig
from exporter.contract import INPUT_NAME, InputContract
from exporter.data.splits import Split
from exporter.errors import GraphError
from exporter.graph.canonical import save_model
from exporter.graph.limits import read_model
from exporter.graph.model import OnnxModel
from exporter.graph.parity import probe_pixels
from exporter.outputs import largest_difference
from exporter.quantization.calibrate import Calibrated
from exporter.quantization.corrections.bias import correct_bias
from exporter.quantization.corrections.equalize import equalize, open_clips
from exporter.quantization.corrections.pairs import pixels_for
from exporter.quantization.corrections.rounding import round_adaptively
from exporter.quantization.probe import open_probe
from exporter.quantization.quantize import QuantizedModel, quantized_core, write_quantized
from exporter.targets import Target

VERSION = 1

FLOAT_CORRECTIONS = frozenset({"open-clips", "equalize"})
"""Those that change a float model, before its activations are measured."""
IMAGES = 256
"""At most so many calibration images are looked at."""
PROBE_IMAGES = 4
TOLERANCE = 1e-4
"""Largest change of an output by equalisation, relative to the largest: float32 sums of many layers
round differently."""


def rescale(out: Path, corrections: tuple[str, ...], model: OnnxModel) -> OnnxModel:
    """Write a float model with other weights, easier to quantize; ``parity`` tells the difference.

    Args:
        out: receives ``model.onnx``.
        corrections: of ``CORRECTIONS``; those that change float models are made.
        model: the float model.

    Raises:
        GraphError: equalisation alone changed the outputs.
    """
    changed = read_model(model.file.checked())
    if "open-clips" in corrections:
        changed = open_clips(changed)
    before = changed
    if "equalize" in corrections:
        changed = equalize(changed)
        moved = _difference(before, changed, model.contract)
        if not moved <= TOLERANCE:
            raise GraphError(
                f"Equalisation changed the outputs of {model.file.path} by {moved:.1e} of the "
                f"largest, where {TOLERANCE:.0e} is allowed. Leave equalize out of --correct."
            )
    parity = _difference(read_model(model.file.path), changed, model.contract)
    path = out / "model.onnx"
    save_model(changed, path)
    return dataclasses.replace(model, file=Artifact.of(path), parity=parity)


def correct(
    out: Path,
    corrections: tuple[str, ...],
    target: Target,
    model: OnnxModel,
    ranges: Artifact,
    method: str,
    data: Split,
    float_layers: tuple[str, ...] = (),
) -> QuantizedModel:
    """Quantize ``model`` as ``quantize`` does, with other roundings or biases.

    Raises what ``quantize`` raises.
    """
    core = quantized_core(target, model, ranges, float_layers)
    images, _ = data.arrays()
    pixels = pixels_for(core, images[:IMAGES], model.contract)
    if "adaround" in corrections:
        core = round_adaptively(core, pixels)
    if "bias" in corrections:
        core = correct_bias(core, pixels)
    return write_quantized(out, target, model, ranges, method, core, corrections)


def rescaled(cache: Cache, config: CorrectionConfig, model: OnnxModel) -> OnnxModel:
    """Return the float model to calibrate and quantize: ``model``, unless corrections change it."""
    chosen = tuple(name for name in config.chosen if name in FLOAT_CORRECTIONS)
    return cache.run(rescale, chosen, model) if chosen else model


def corrected(
    cache: Cache,
    config: CorrectionConfig,
    target: Target,
    model: OnnxModel,
    ranges: Calibrated,
    int8: QuantizedModel,
    data: Split,
) -> QuantizedModel:
    """Return ``int8``, made of ``model`` with the best of ``ranges``, or its corrected form."""
    if not set(config.chosen) - FLOAT_CORRECTIONS:
        return int8
    artifact = ranges.by_method[int8.method]
    floats = (int8.float_layers,) if int8.float_layers else ()
    return cache.run(correct, config.chosen, target, model, artifact, int8.method, data, *floats)


def _difference(before: ModelProto, after: ModelProto, contract: InputContract) -> float:
    """Return the largest change of an output on random pixels, relative to the largest |output|."""
    pixels = probe_pixels(contract, PROBE_IMAGES)
    names = [output.name for output in before.graph.output]
    old, new = (
        open_probe(model, names).run(names, {INPUT_NAME: pixels}) for model in (before, after)
    )
    return largest_difference(new, old)
