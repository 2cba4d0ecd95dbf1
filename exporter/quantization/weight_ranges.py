"""Which values the weights of a layer may take: ONNX Runtime's TensorQuantOverrides for them.

Each output channel is quantized symmetrically around zero, up to its largest |weight|, to
[-127, 127] or, with seven bits, to [-64, 64].

A dead channel (all weights zero, as masks leave it) has no largest weight. ONNX Runtime then takes
1.0 as its scale, and as biases are stored in units of ``input scale * weight scale``, the bias of
such a channel is rounded to whole input steps: an error that every later layer sees. A dead channel
is given the layer's median range here, which keeps its bias exact and its weights zero.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exporter.quantization.layers import Layer

Override = Mapping[str, int | bool | np.float32]

_SMALLEST = 255 * float(np.finfo(np.float32).tiny)
"""Below this, ONNX Runtime takes a channel's range for empty."""


def weight_overrides(
    layers: Sequence[Layer], *, per_channel: bool, seven_bit: Collection[str]
) -> dict[str, list[Override]]:
    """Return the quantization of every layer's weights, by name of the initializer.

    Args:
        layers: of the float graph.
        per_channel: one scale per output, or one for the whole layer.
        seven_bit: names of the layers whose weights are kept in [-64, 64].
    """
    narrow = {layer.weight for layer in layers if layer.name in seven_bit}
    overrides: dict[str, list[Override]] = {}
    for layer in layers:
        ranges = channel_ranges(layer.rows)
        reduce_range = layer.weight in narrow  # weights can be shared by several layers
        if per_channel:
            overrides[layer.weight] = [
                {"axis": layer.output_axis, "reduce_range": reduce_range, **_around_zero(limit)}
                for limit in ranges
            ]
        else:
            overrides[layer.weight] = [{"reduce_range": reduce_range, **_around_zero(ranges.max())}]
    return overrides


def channel_ranges(rows: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return the largest |weight| of each row; a dead row gets the median of the others.

    If all are dead, it is 1.
    """
    largest = np.abs(rows.astype(np.float32)).max(axis=1)
    dead = largest < _SMALLEST
    substitute = np.median(largest[~dead]) if not dead.all() else 1.0
    ranges: NDArray[np.float32] = np.where(dead, np.float32(substitute), largest)
    return ranges


def _around_zero(limit: np.float32) -> dict[str, np.float32]:
    return {"rmin": -limit, "rmax": limit}
