"""What each output of an integer layer multiplies its weights with, in kernel order, in blocks.

A convolution is a matrix product of its rows of weights with the windows it moves over. All windows
of an image would be many times the image, so they come in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from exporter.quantization.integer_layers import IntegerLayer, Window, as_bytes

Number = TypeVar("Number", bound=np.generic)
BLOCK = 1 << 22
"""Bytes of activations in hand at a time."""
Place = tuple[int, slice]
"""Which outputs a block belongs to, by the first two axes of an array ``output_shape``."""


def output_shape(layer: IntegerLayer, activations: NDArray[np.generic]) -> tuple[int, ...]:
    """Return the shape of the layer's outputs with the outputs last, as blocks fill it.

    [N, *positions, outputs] for a convolution, [1, rows, outputs] for a matrix product.
    """
    return (*_windows(layer, activations)[1], len(layer.rows))


def blocks(
    layer: IntegerLayer, activations: NDArray[np.generic]
) -> Iterator[tuple[Place, NDArray[np.uint8]]]:
    """Yield blocks of the 8-bit ``activations`` [N, channels, ...] or [..., K], with their place.

    A block is [P, taps, groups, channels of a group]; reshaped to [P, K] for one group, it is in
    the order of ``layer.rows``. Positions outside the image hold the zero point.
    """
    windows, positions = _windows(layer, activations)
    channels = layer.rows.shape[1] // layer.taps
    step = max(1, BLOCK // max(1, windows[0, 0].size))
    for image in range(positions[0]):
        for start in range(0, positions[1], step):
            place = image, slice(start, min(start + step, positions[1]))
            yield place, windows[place].reshape(-1, layer.taps, layer.groups, channels)


def channels_last(layer: IntegerLayer, outputs: NDArray[Number]) -> NDArray[Number]:
    """Return a layer's outputs, as the graph has them, in the shape ``output_shape``."""
    if layer.window is None:
        return outputs.reshape(1, -1, outputs.shape[-1])
    return np.moveaxis(outputs, 1, -1)


def _windows(
    layer: IntegerLayer, activations: NDArray[np.generic]
) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    """Return a view whose first axes are positions, and the shape of those axes."""
    values = as_bytes(activations)
    if layer.window is None:
        rows = values.reshape(1, -1, layer.rows.shape[1])
        return rows, rows.shape[:2]
    view = _moving(layer.window, layer.zero_point, values)
    return view, view.shape[: values.ndim - 1]


def _moving(window: Window, zero_point: int, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a view of ``values`` [N, channels, *sizes]: [N, *positions, *kernel, channels]."""
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
