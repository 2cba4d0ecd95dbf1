"""Physical removal of channels with every weight tied to them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from exporter.pruning.group import Group
from exporter.pruning.removal import Kept, by_part, removal_of


def shrink_groups(module: nn.Module, groups: Iterable[Group], kept: Kept) -> None:
    """Keep only the channels in ``kept``, in place.

    Where the removed channels were masked, the outputs are the same up to the order of summation.
    """
    gone = removal_of(groups, kept)
    for layer, places in gone.outputs.items():
        _drop_outputs(module.get_submodule(layer), places)
    for layer, places in gone.norms.items():
        _drop_normalised(module.get_submodule(layer), places)
    for layer, places in gone.inputs.items():
        _drop_inputs(module.get_submodule(layer), places)
    for (name, dimension), places in gone.parameters.items():
        owner, _, attribute = name.rpartition(".")
        _drop(module.get_submodule(owner), attribute, places, dimension)


def _drop_outputs(layer: nn.Module, places: set[int]) -> None:
    for name in ("weight", "bias"):
        _drop(layer, name, places)
    width = len(layer.get_parameter("weight"))
    if isinstance(layer, nn.Linear):
        layer.out_features = width
    elif isinstance(layer, nn.Conv2d):
        if layer.groups == layer.out_channels > 1:  # depthwise: its inputs are the same channels
            layer.in_channels = layer.groups = width
        layer.out_channels = width


def _drop_inputs(layer: nn.Module, places: set[int]) -> None:
    old = layer.get_parameter("weight")
    weight = by_part(old.detach(), layer)
    parts, width = weight.shape[0], weight.shape[2]
    rest = _rest(parts * width, places)
    columns = rest.unflatten(0, (parts, -1)) % width
    chosen = [part.index_select(1, some) for part, some in zip(weight, columns, strict=True)]
    layer.weight = nn.Parameter(torch.cat(chosen), requires_grad=old.requires_grad)
    if isinstance(layer, nn.Linear):
        layer.in_features = len(rest)
    elif isinstance(layer, nn.Conv2d):
        layer.in_channels = len(rest)


def _drop_normalised(layer: nn.Module, places: set[int]) -> None:
    for name in ("weight", "bias"):
        _drop(layer, name, places)
    for name in ("running_mean", "running_var"):
        buffer = getattr(layer, name)
        if buffer is not None:
            layer.register_buffer(name, buffer[_rest(len(buffer), places)].clone())
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.InstanceNorm2d):
        layer.num_features -= len(places)


def _drop(layer: nn.Module, name: str, places: set[int], dimension: int = 0) -> None:
    old = getattr(layer, name)
    if old is not None:
        rest = _rest(old.shape[dimension], places)
        chosen = old.detach().index_select(dimension, rest).contiguous()
        setattr(layer, name, nn.Parameter(chosen, requires_grad=old.requires_grad))


def _rest(size: int, places: set[int]) -> Tensor:
    return torch.tensor([place for place in range(size) if place not in places])
