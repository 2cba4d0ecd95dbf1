"""Masks through ``torch.nn.utils.prune``, and folding them into the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from exporter.pruning.groups import Group


def mask_channels(
    module: nn.Module, groups: tuple[Group, ...], kept: Mapping[str, tuple[int, ...]]
) -> None:
    """Zero every channel outside ``kept``: the filters, their biases and their batch-norms.

    With a batch-norm's weight and bias at zero the channel is zero behind it, whatever its running
    statistics, so what reads it reads zeros.
    """
    for group in groups:
        gone = sorted(set(range(group.width)) - set(kept[group.name]))
        for tied in (*group.producers, *group.norms):
            layer = module.get_submodule(tied.layer)
            rows = [row for channel in gone for row in tied.positions[channel]]
            for name in ("weight", "bias"):
                tensor = getattr(layer, name)
                if tensor is not None:
                    mask = torch.ones_like(tensor)
                    mask[rows] = 0
                    torch_prune.custom_from_mask(layer, name, mask)


def mask_weights(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Zero single weights, by layer name."""
    for name, mask in masks.items():
        torch_prune.custom_from_mask(module.get_submodule(name), "weight", mask)


def fold(module: nn.Module) -> None:
    """Make every mask permanent: the weights become weight times mask, the masks go away."""
    for layer in module.modules():
        for name in ("weight", "bias"):
            if hasattr(layer, f"{name}_mask"):
                torch_prune.remove(layer, name)
