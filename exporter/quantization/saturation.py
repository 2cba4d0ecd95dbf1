"""Can a layer's integer sums overflow on an x86 CPU without VNNI? A static proof, per layer.

There, kernels multiply unsigned activations ``a`` by signed weights ``w`` with ``vpmaddubsw``: the
products of two neighbours are added in a 16-bit lane that saturates, silently. Neighbours are the
elements 2i and 2i+1 of a row of weights in kernel order (``Layer.rows``); kernels walk through
rows four elements at a time, the last four padded with zeros, and add everything past the pair in
32 bits (``vpmaddwd``): ConvSymKernelAvx2.S, QgemmU8X8KernelAvx2.S, QgemvU8S8KernelAvx2.S and their
AVX512 forms in onnxruntime/core/mlas/lib/x86_64. Activations are anything from 0 to 255, so a pair
is safe exactly if

    255 * (max(w0, 0) + max(w1, 0)) <= 32767   and   255 * (min(w0, 0) + min(w1, 0)) >= -32768

Weights in [-64, 64] always are. CPUs with VNNI, and ARM, add in 32 bits and never saturate.
Neither do depthwise convolutions, one filter per channel: their kernels widen to 32 bits before
they multiply (ConvSymKernelAvx2.S there, qdwconv_avx2.cpp beside it), and ONNX Runtime takes them
for every convolution with one input and one output channel per group (qlinearconv.cc).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from exporter.quantization.layers import layers_of

ACTIVATION_MAX = 255
INT16 = np.iinfo(np.int16)


def can_saturate(rows: NDArray[np.generic]) -> bool:
    """Return whether some activations make a pair of products leave int16.

    Args:
        rows: int8 weights [outputs, K] in kernel order; an odd K is padded with a zero.
    """
    return bool(risky_pairs(rows).any())


def risky_pairs(
    rows: NDArray[np.generic], largest: NDArray[np.uint8] | None = None
) -> NDArray[np.bool_]:
    """Return which pairs of weights some activations push out of int16, [outputs, ceil(K / 2)].

    Args:
        rows: int8 weights [outputs, K] in kernel order; an odd K is padded with a zero.
        largest: the largest activation that each of the K weights meets, [K]; 255 if not given.
    """
    wide = rows.astype(np.int32)
    limit = ACTIVATION_MAX if largest is None else largest.astype(np.int32)
    highest = _pair_sums(limit * np.maximum(wide, 0))
    lowest = _pair_sums(limit * np.minimum(wide, 0))
    return (highest > INT16.max) | (lowest < INT16.min)


def saturating_layers(model: ModelProto) -> tuple[str, ...]:
    """Return the names of the layers of a QDQ graph that could saturate, in graph order."""
    return tuple(
        layer.name
        for layer in layers_of(model)
        if layer.rows.dtype == np.int8 and not layer.depthwise and can_saturate(layer.rows)
    )


def _pair_sums(products: NDArray[np.int32]) -> NDArray[np.int32]:
    padded = np.pad(products, ((0, 0), (0, products.shape[1] % 2)))
    sums: NDArray[np.int32] = padded[:, 0::2] + padded[:, 1::2]
    return sums
