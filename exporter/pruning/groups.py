"""Which channels belong together: a channel leaves every layer it is tied to, or none.

The coupling is torch-pruning's dependency graph (Fang et al., CVPR 2023, arXiv 2301.12900). A
group is described by names and indices, so that it stays valid for any copy of the network.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import nn

from exporter.contract import InputContract

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tied:
    """A layer of a group, and where each of the group's channels lies in it."""

    layer: str
    positions: tuple[tuple[int, ...], ...]
    """Per channel, the indices along the layer's coupled dimension (several after a flatten)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Channels of one or more layers that must be removed together."""

    name: str
    """The first layer, in the network's order, that produces these channels."""
    width: int
    producers: tuple[Tied, ...]
    """Convolutions and linears whose outputs they are."""
    norms: tuple[Tied, ...]
    consumers: tuple[Tied, ...]
    """Convolutions and linears whose inputs they are."""


def find_groups(module: nn.Module, contract: InputContract) -> tuple[Group, ...]:
    """Return the prunable groups of ``module`` in the network's order.

    Left alone: the network's outputs (nothing consumes them) and frozen layers.
    """
    graph = dependency_graph(module, contract)
    names = {layer: name for name, layer in module.named_modules()}
    order = {name: place for place, name in enumerate(names.values())}
    groups = []
    for found in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]):
        producers: dict[str, list[tuple[int, ...]]] = {}
        norms: dict[str, list[tuple[int, ...]]] = {}
        consumers: dict[str, list[tuple[int, ...]]] = {}
        width = _outputs(found[0].dep.target.module)
        for item in found:
            layer = item.dep.target.module
            positions = _positions(item.root_idxs, item.idxs, width)
            if isinstance(layer, NORMS):
                norms[names[layer]] = positions
            elif isinstance(layer, nn.Conv2d | nn.Linear):
                outputs = graph.is_out_channel_pruning_fn(item.dep.handler)
                (producers if outputs else consumers)[names[layer]] = positions
        frozen = any(not module.get_parameter(f"{name}.weight").requires_grad for name in producers)
        if consumers and not frozen:
            groups.append(
                Group(
                    name=min(producers, key=order.__getitem__),
                    width=width,
                    producers=_tied(producers, order),
                    norms=_tied(norms, order),
                    consumers=_tied(consumers, order),
                )
            )
    return tuple(sorted(groups, key=lambda group: order[group.name]))


def dependency_graph(module: nn.Module, contract: InputContract) -> tp.DependencyGraph:
    """Return torch-pruning's graph of ``module``, traced on one blank image."""
    # The trace follows gradients; without one on the input it would not see frozen first layers.
    blank = torch.zeros(1, 3, contract.height, contract.width, requires_grad=True)
    training = module.training
    graph = tp.DependencyGraph().build_dependency(module.eval(), example_inputs=blank)
    module.train(training)
    return graph


def _outputs(layer: nn.Module) -> int:
    return int(layer.get_parameter("weight").shape[0])


def _positions(channels: list[int], indices: list[int], width: int) -> list[tuple[int, ...]]:
    found: dict[int, list[int]] = defaultdict(list)
    for channel, index in zip(channels, indices, strict=True):
        found[channel].append(index)
    return [tuple(found[channel]) for channel in range(width)]


def _tied(layers: dict[str, list[tuple[int, ...]]], order: dict[str, int]) -> tuple[Tied, ...]:
    return tuple(
        Tied(layer=name, positions=tuple(layers[name]))
        for name in sorted(layers, key=order.__getitem__)
    )
