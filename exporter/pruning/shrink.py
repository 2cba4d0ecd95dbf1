"""Physical removal of channels with every weight tied to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from exporter.pruning.groups import Group, Tied


def shrink_groups(
    module: nn.Module, groups: tuple[Group, ...], kept: Mapping[str, tuple[int, ...]]
) -> None:
    """Keep only the channels in ``kept``, in place.

    Where the removed channels were zero, the outputs are the same up to the order of summation.
    """
    for group in groups:
        channels = kept[group.name]
        if len(channels) == group.width:
            continue
        for tied in group.producers:
            _keep_outputs(module.get_submodule(tied.layer), _positions(tied, channels))
        for tied in group.norms:
            _keep_normalised(module.get_submodule(tied.layer), _positions(tied, channels))
        for tied in group.consumers:
            _keep_inputs(module.get_submodule(tied.layer), _positions(tied, channels))


def _positions(tied: Tied, channels: Sequence[int]) -> Tensor:
    return torch.tensor([place for channel in channels for place in tied.positions[channel]])


def _keep_outputs(layer: nn.Module, rows: Tensor) -> None:
    _select(layer, "weight", rows, 0)
    if layer.bias is not None:
        _select(layer, "bias", rows, 0)
    if isinstance(layer, nn.Linear):
        layer.out_features = len(rows)
    elif isinstance(layer, nn.Conv2d):
        layer.out_channels = len(rows)


def _keep_inputs(layer: nn.Module, columns: Tensor) -> None:
    _select(layer, "weight", columns, 1)
    if isinstance(layer, nn.Linear):
        layer.in_features = len(columns)
    elif isinstance(layer, nn.Conv2d):
        layer.in_channels = len(columns)


def _keep_normalised(layer: nn.Module, rows: Tensor) -> None:
    for name in ("weight", "bias"):
        _select(layer, name, rows, 0)
    for name in ("running_mean", "running_var"):
        buffer = layer.get_buffer(name)
        layer.register_buffer(name, buffer[rows].clone())
    if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
        layer.num_features = len(rows)


def _select(layer: nn.Module, name: str, places: Tensor, dimension: int) -> None:
    old = layer.get_parameter(name)
    chosen = old.detach().index_select(dimension, places).contiguous()
    setattr(layer, name, nn.Parameter(chosen, requires_grad=old.requires_grad))
