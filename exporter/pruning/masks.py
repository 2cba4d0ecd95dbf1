"""Masks through ``torch.nn.utils.prune``, and folding them into the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from exporter.pruning.group import Group
from exporter.pruning.removal import Kept, Removal, by_part, removal_of


def mask_channels(module: nn.Module, groups: Iterable[Group], kept: Kept) -> None:
    """Mask every channel outside ``kept``: what makes it, what scales it and what reads it.

    With a batch-norm's weight and bias at zero the channel is zero behind it, whatever its running
    statistics. Where it is made into something else again, as by a sigmoid, the zero weights that
    read it see to it that it counts for nothing.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    masks: dict[str, Tensor] = {}

    def mask_of(name: str) -> Tensor:
        if name not in masks:
            masks[name] = torch.ones_like(parameters[name])
        return masks[name]

    _zero(module, removal_of(groups, kept), mask_of)
    for name, mask in masks.items():
        owner, _, attribute = name.rpartition(".")
        torch_prune.custom_from_mask(module.get_submodule(owner), attribute, mask)


@torch.no_grad()
def zero_channels(module: nn.Module, groups: Iterable[Group], kept: Kept) -> None:
    """Do to the weights at once what ``mask_channels`` and ``fold`` do in two steps."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    _zero(module, removal_of(groups, kept), parameters.__getitem__)


def _zero(module: nn.Module, gone: Removal, tensor_of: Callable[[str], Tensor]) -> None:
    """Set all places of a removal to zero, in place, in the tensor for each parameter."""
    for layer, places in (*gone.outputs.items(), *gone.norms.items()):
        for attribute in ("weight", "bias"):
            if getattr(module.get_submodule(layer), attribute) is not None:
                tensor_of(f"{layer}.{attribute}")[sorted(places)] = 0
    for (name, dimension), places in gone.parameters.items():
        tensor_of(name).transpose(0, dimension)[sorted(places)] = 0
    for layer, places in gone.inputs.items():
        weight = by_part(tensor_of(f"{layer}.weight"), module.get_submodule(layer))
        inputs, width = torch.tensor(sorted(places)), weight.shape[2]
        weight.transpose(1, 2)[inputs // width, inputs % width] = 0


def mask_weights(module: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Zero single weights, by layer name."""
    for name, mask in masks.items():
        torch_prune.custom_from_mask(module.get_submodule(name), "weight", mask)


def fold(module: nn.Module) -> None:
    """Make every mask permanent: the weights become weight times mask, the masks go away."""
    for layer in module.modules():
        for name, _ in list(layer.named_buffers(recurse=False)):
            masked = name.removesuffix("_mask")
            if masked != name and hasattr(layer, f"{masked}_orig"):
                torch_prune.remove(layer, masked)
