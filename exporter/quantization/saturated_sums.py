"""A layer computed as an x86 CPU without VNNI does: pairs of products clipped to 16 bits.

The pairs are those of ``saturation``: the products 2i and 2i+1 of a row are added with
``vpmaddubsw``, everything else in 32 bits, where nothing is lost. So

    saturated sum = exact sum - what clipping took from the pairs

and only pairs that some activation at hand can push out of 16 bits have to be looked at. Positions
outside the image hold the zero point, as they do in the kernels, and take part like all others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.quantization.columns import blocks, output_shape
from exporter.quantization.integer_layers import IntegerLayer
from exporter.quantization.saturation import INT16, risky_pairs


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Emulated:
    """The integer sums of one layer, before they are rounded to eight bits."""

    exact: NDArray[np.int32]
    """``sum((a - zero_point) * w) + bias`` as CPUs with VNNI and ARM add it: [N, ..., outputs] of a
    convolution, [1, rows, outputs] of a matrix product."""
    saturated: NDArray[np.int32]
    """The same as CPUs without VNNI add it."""
    clipped: int
    """Pairs of products that were clipped."""
    pairs: int
    """Pairs that were added."""


def emulate(layer: IntegerLayer, activations: NDArray[np.generic]) -> Emulated:
    """Return what ``layer`` makes of the 8-bit ``activations`` [N, channels, ...] or [..., K]."""
    exact = np.empty(output_shape(layer, activations), np.int32)
    saturated = np.empty_like(exact)
    clipped = 0
    for place, columns in blocks(layer, activations):
        sums, lost, count = _sums(layer, columns)
        exact[place] = sums.reshape(exact[place].shape)
        saturated[place] = (sums - lost).reshape(exact[place].shape)
        clipped += count
    return Emulated(
        exact=exact,
        saturated=saturated,
        clipped=clipped,
        pairs=exact.size * -(-layer.rows.shape[1] // 2),
    )


def _sums(
    layer: IntegerLayer, columns: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return exact sums, what clipping takes from them, both [P, outputs], and how many it clips.

    Args:
        layer: whose weights are multiplied.
        columns: the activations of P positions, [P, taps, groups, channels of a group].
    """
    by_group = layer.rows.reshape(layer.groups, -1, layer.rows.shape[1])
    sums: list[NDArray[np.int64]] = []
    lost: list[NDArray[np.int64]] = []
    clipped = 0
    for group, rows in enumerate(by_group):
        activations = columns[:, :, group].reshape(len(columns), -1)
        # float64 holds every such sum exactly, and multiplies much faster than integers do.
        products: NDArray[np.float64] = activations.astype(np.float64) @ rows.T.astype(np.float64)
        shift = layer.zero_point * rows.sum(axis=1, dtype=np.int64)
        sums.append(products.astype(np.int64) - shift)
        taken, count = _clipping(activations, rows, layer.depthwise)
        lost.append(taken)
        clipped += count
    exact: NDArray[np.int64] = np.concatenate(sums, axis=1) + layer.bias
    return exact, np.concatenate(lost, axis=1), clipped


def _clipping(
    activations: NDArray[np.uint8], rows: NDArray[np.int8], depthwise: bool
) -> tuple[NDArray[np.int64], int]:
    """Return what clipping takes from each sum, [P, outputs], and how many pairs it clips."""
    lost = np.zeros((len(activations), len(rows)), np.int64)
    clipped = 0
    if depthwise:
        return lost, clipped
    risky = risky_pairs(rows, activations.max(axis=0))
    for pair in np.flatnonzero(risky.any(axis=0)):
        outputs = np.flatnonzero(risky[:, pair])
        both = slice(2 * pair, 2 * pair + 2)  # never the single weight at the end of an odd row
        sums = activations[:, both].astype(np.int32) @ rows[outputs, both].T.astype(np.int32)
        excess = sums - np.clip(sums, INT16.min, INT16.max)
        clipped += int(np.count_nonzero(excess))
        lost[:, outputs] += excess
    return lost, clipped
