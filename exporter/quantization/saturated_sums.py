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
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from exporter.quantization.integer_layers import IntegerLayer, Window, as_bytes
from exporter.quantization.saturation import INT16, risky_pairs

BLOCK = 1 << 22
"""Bytes of activations that are multiplied at a time: memory must not grow with the image."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Emulated:
    """The integer sums of one layer, before they are rounded to eight bits."""

    exact: NDArray[np.int32]
    """``sum((a - zero_point) * w) + bias`` as CPUs with VNNI and ARM add it: [N, outputs, ...] of a
    convolution, [..., outputs] of a matrix product."""
    saturated: NDArray[np.int32]
    """The same as CPUs without VNNI add it."""
    clipped: int
    """Pairs of products that were clipped."""
    pairs: int
    """Pairs that were added."""


def emulate(layer: IntegerLayer, activations: NDArray[np.generic]) -> Emulated:
    """Return what ``layer`` makes of the 8-bit ``activations`` [N, channels, ...] or [..., K]."""
    values = as_bytes(activations)
    outputs, width = layer.rows.shape
    positions: tuple[int, ...]
    if layer.window is None:
        windows = values.reshape(1, -1, width)
        positions = windows.shape[:2]
    else:
        windows = _windows(layer.window, layer.zero_point, values)
        positions = windows.shape[: values.ndim - 1]
    exact = np.empty((*positions, outputs), np.int32)
    saturated = np.empty_like(exact)
    clipped = 0
    step = max(1, BLOCK // windows[0, 0].size)
    for image in range(positions[0]):
        for start in range(0, positions[1], step):
            part = image, slice(start, start + step)
            columns = windows[part].reshape(-1, layer.taps, layer.groups, width // layer.taps)
            sums, lost, count = _sums(layer, columns)
            exact[part] = sums.reshape(exact[part].shape)
            saturated[part] = (sums - lost).reshape(exact[part].shape)
            clipped += count
    if layer.window is None:
        exact, saturated = (
            part.reshape(*values.shape[:-1], outputs) for part in (exact, saturated)
        )
    else:
        exact, saturated = (np.moveaxis(part, -1, 1) for part in (exact, saturated))
    return Emulated(
        exact=exact,
        saturated=saturated,
        clipped=clipped,
        pairs=exact.size * -(-width // 2),
    )


def _windows(window: Window, zero_point: int, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a view of ``values`` [N, channels, *sizes]: [N, *positions, *kernel, channels].

    Positions outside the image hold ``zero_point``.
    """
    rank = len(window.kernel)
    padded = np.pad(
        np.moveaxis(values, 1, -1),
        ((0, 0), *window.padding(values.shape[2:]), (0, 0)),
        constant_values=zero_point,
    )
    extents = tuple(
        dilation * (size - 1) + 1
        for dilation, size in zip(window.dilations, window.kernel, strict=True)
    )
    view = sliding_window_view(padded, extents, axis=tuple(range(1, rank + 1)))
    steps = (slice(None, None, stride) for stride in window.strides)
    holes = (slice(None, None, dilation) for dilation in window.dilations)
    view = view[(slice(None), *steps, slice(None), *holes)]  # [N, *positions, channels, *kernel]
    return np.moveaxis(view, rank + 1, -1)


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
