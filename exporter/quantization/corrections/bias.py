"""Bias correction: what quantization adds to a layer's mean output is taken out of its bias.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv 1906.04721), section 4.2; here in the empirical form of its appendix D. Rounding shifts the
mean of an output, ``E[W~ x~] - E[W x]``, which the next layers amplify. The shift is measured on
calibration images, per channel, and subtracted: layer by layer, each with all layers before it
already corrected.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from exporter.graph.normalization import NORMALIZED
from exporter.progress import track
from exporter.quantization.columns import channels_last
from exporter.quantization.corrections.pairs import LayerPair, layer_pairs, with_constants
from exporter.quantization.probe import open_probe
from exporter.quantization.quantize import QuantizedCore

INT32 = np.iinfo(np.int32)


def correct_bias(core: QuantizedCore, pixels: Iterable[NDArray[np.float32]]) -> QuantizedCore:
    """Return ``core`` with other int32 biases: mean outputs are the float network's.

    That holds for each layer on ``pixels`` to half a step of its bias, before its output is rounded
    to 8 bits. Layers without a bias stay as they are.

    Args:
        core: a network before and after quantization.
        pixels: batches for both, which can be gone through any number of times.
    """
    pairs = [pair for pair in layer_pairs(core) if pair.bias]
    wanted = _channel_means(core.floating, {pair.output: pair for pair in pairs}, pixels)
    quantized = core.quantized
    with track("Correcting biases", total=len(pairs)) as advance:
        for pair in pairs:
            tensor = pair.quantized_output
            found = _channel_means(quantized, {tensor: pair}, pixels)[tensor]
            shift = np.rint((found - wanted[pair.output]) / pair.steps)
            corrected = np.clip(pair.quantized.bias - shift, INT32.min, INT32.max)
            quantized = with_constants(quantized, {pair.bias: corrected.astype(np.int32)})
            advance(1, pair.quantized.name)
    return dataclasses.replace(core, quantized=quantized)


def _channel_means(
    model: ModelProto, pairs: Mapping[str, LayerPair], pixels: Iterable[NDArray[np.float32]]
) -> dict[str, NDArray[np.float64]]:
    """Return the mean of each tensor, [outputs], over images and positions."""
    names = list(pairs)
    session = open_probe(model, names)
    sums = dict.fromkeys(names, np.zeros(1))
    counts = dict.fromkeys(names, 0)
    for batch in pixels:
        for name, values in zip(names, session.run(names, {NORMALIZED: batch}), strict=True):
            outputs = channels_last(pairs[name].quantized, values)
            axes = tuple(range(outputs.ndim - 1))
            sums[name] = sums[name] + outputs.sum(axis=axes, dtype=np.float64)
            counts[name] += outputs.size // outputs.shape[-1]
    return {name: sums[name] / counts[name] for name in names}
