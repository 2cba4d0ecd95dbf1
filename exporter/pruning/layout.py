"""Where a channel's weights lie in the tensors of the layers that it passes through."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def rows(tensor: Tensor, positions: Sequence[tuple[int, ...]]) -> Tensor:
    """Return ``[C, n]`` in float64: per channel, all that ``tensor`` holds at its positions."""
    return tensor[torch.tensor(positions)].double().reshape(len(positions), -1)


def by_input(weight: Tensor, layer: nn.Conv2d | nn.Linear) -> Tensor:
    """Return a layer's ``[out, in / groups, ...]`` as ``[in, n]``: what reads each input."""
    parts = _groups(layer)
    outputs, inputs = weight.shape[:2]
    split = weight.reshape(parts, outputs // parts, inputs, -1)
    return split.transpose(1, 2).reshape(parts * inputs, -1)


def by_weight(values: Tensor, layer: nn.Conv2d | nn.Linear) -> Tensor:
    """Return one value per input, ``[in]``, shaped to multiply with the layer's weight."""
    parts = _groups(layer)
    outputs, inputs, *kernel = layer.weight.shape
    split = values.reshape(parts, 1, inputs).expand(parts, outputs // parts, inputs)
    return split.reshape(outputs, inputs, *[1] * len(kernel)).expand(layer.weight.shape)


def _groups(layer: nn.Conv2d | nn.Linear) -> int:
    return layer.groups if isinstance(layer, nn.Conv2d) else 1
