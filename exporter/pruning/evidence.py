"""What data-driven criteria look at, streamed over calibration images.

A criterion states what it needs, and only that is gathered. Memory is one batch plus a number per
channel or per weight, whatever the number of images.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporter.pruning.groups import Group
from exporter.pruning.layout import by_input, rows

Batches = Iterable[tuple[Tensor, Tensor]]
"""Normalised pixels ``[N, 3, H, W]`` with labels ``[N]``."""

Need = Literal[
    "weights",
    "batch-norms",
    "activations",
    "gradients",
    "squared-gradients",
    "sample-gradients",
    "feature-maps",
]
"""What a criterion looks at. The first two are in the network; the others take images."""

RANK_IMAGES = 32
"""Images whose feature maps are decomposed; the paper finds the average rank stable over them."""

Layer = nn.Conv2d | nn.Linear


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Statistics over the calibration images, in float64. What was not asked for is empty."""

    input_mean: Mapping[str, Tensor] = field(default_factory=dict)
    """Per layer, the mean of |a| of each of its inputs (a convolution's channels): ``[in]``."""
    input_norm: Mapping[str, Tensor] = field(default_factory=dict)
    """Per layer, the root mean square of each input: ``[in]``."""
    input_active: Mapping[str, Tensor] = field(default_factory=dict)
    """Per layer, the share of each input's values that are not zero: ``[in]``."""
    gradient: Mapping[str, Tensor] = field(default_factory=dict)
    """Per layer, the mean over batches of |dL/dw|, in the weight's shape."""
    gradient_square: Mapping[str, Tensor] = field(default_factory=dict)
    """Per layer, the mean of (dL/dw)^2 over batches or over single images, as asked for."""
    removal_square: Mapping[str, Tensor] = field(default_factory=dict)
    """Per group, the mean over batches of the squared first-order change of the loss where a
    channel is removed: ``[C]``."""
    map_rank: Mapping[str, Tensor] = field(default_factory=dict)
    """Per layer that puts out channels, the average rank of the positive part of each: ``[out]``.
    """


def gather_evidence(
    module: nn.Module, groups: Sequence[Group], batches: Batches, need: Need
) -> Evidence:
    """Return what ``need`` asks for; the network itself is left as it was.

    Gradients are those of the mean cross-entropy of a batch, in eval mode. ``gradients`` and
    ``squared-gradients`` depend on the batch size, as in their sources; all else does not.

    Args:
        module: returns logits ``[N, classes]``.
        groups: channels that are of interest, for what is gathered by channel.
        batches: read once, and not at all where the network is all that is needed.
        need: as the criterion states it.
    """
    twin = copy.deepcopy(module).eval().requires_grad_(False)
    match need:
        case "weights" | "batch-norms":
            return Evidence()
        case "activations":
            return _activations(twin, batches)
        case "gradients":
            return _gradients(twin, batches)
        case "squared-gradients":
            return _squares(twin, groups, batches)
        case "sample-gradients":
            return _squares(twin, (), _single_images(batches))
        case "feature-maps":
            return _feature_maps(twin, groups, batches)


def weighted_layers(module: nn.Module) -> dict[str, Layer]:
    """Return the convolutions and linears of ``module`` by name."""
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }


@torch.no_grad()
def _activations(module: nn.Module, batches: Batches) -> Evidence:
    layers = weighted_layers(module)
    totals: dict[str, Tensor] = {}
    values = dict.fromkeys(layers, 0)

    def watch(name: str, layer: Layer) -> None:
        width = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
        total = torch.zeros(3, width, dtype=torch.float64, device=layer.weight.device)
        totals[name] = total

        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            read = inputs[0]
            # A linear layer's channels are its last dimension, wherever that is.
            channel = 1 if isinstance(layer, nn.Conv2d) else read.ndim - 1
            others = [place for place in range(read.ndim) if place != channel]
            total[0] += read.abs().sum(others, dtype=torch.float64)
            total[1] += read.square().sum(others, dtype=torch.float64)
            total[2] += read.count_nonzero(others)
            values[name] += read.numel() // width

        layer.register_forward_pre_hook(add)

    for name, layer in layers.items():
        watch(name, layer)
    for pixels, _ in batches:
        module(pixels)
    # A layer that never ran read nothing: all its statistics are 0.
    means = {name: totals[name] / max(values[name], 1) for name in layers}
    return Evidence(
        input_mean={name: mean[0] for name, mean in means.items()},
        input_norm={name: mean[1].sqrt() for name, mean in means.items()},
        input_active={name: mean[2] for name, mean in means.items()},
    )


def _gradients(module: nn.Module, batches: Batches) -> Evidence:
    totals = _zeros(module)
    count = 0
    for gradients in _weight_gradients(module, batches):
        for name, gradient in gradients.items():
            totals[name] += gradient.abs()
        count += 1
    return Evidence(gradient={name: total / count for name, total in totals.items()})


def _squares(module: nn.Module, groups: Sequence[Group], pieces: Batches) -> Evidence:
    layers = weighted_layers(module)
    totals = _zeros(module)
    removals = {group.name: torch.zeros(group.width, dtype=torch.float64) for group in groups}
    count = 0
    for gradients in _weight_gradients(module, pieces):
        for name, gradient in gradients.items():
            wide = gradient.double()
            totals[name].addcmul_(wide, wide)
        for group in groups:
            change = torch.zeros(group.width, dtype=torch.float64)
            for tied in group.consumers:
                weight = layers[tied.layer].weight.detach()
                product = weight.double() * gradients[tied.layer]
                change += rows(by_input(product, layers[tied.layer]), tied.positions).sum(1).cpu()
            removals[group.name] += change.square()
        count += 1
    return Evidence(
        gradient_square={name: total / count for name, total in totals.items()},
        removal_square={name: total / count for name, total in removals.items()},
    )


def _weight_gradients(module: nn.Module, batches: Batches) -> Iterator[dict[str, Tensor]]:
    """Yield dL/dw of every convolution and linear, batch by batch."""
    weights = {
        name: layer.weight.requires_grad_() for name, layer in weighted_layers(module).items()
    }
    for pixels, labels in batches:
        loss = functional.cross_entropy(module(pixels), labels)
        found = torch.autograd.grad(loss, tuple(weights.values()), materialize_grads=True)
        yield dict(zip(weights, found, strict=True))


def _zeros(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(layer.weight, dtype=torch.float64)
        for name, layer in weighted_layers(module).items()
    }


def _single_images(batches: Batches) -> Batches:
    for pixels, labels in batches:
        yield from zip(pixels.split(1), labels.split(1), strict=True)


@torch.no_grad()
def _feature_maps(module: nn.Module, groups: Sequence[Group], batches: Batches) -> Evidence:
    totals: dict[str, Tensor] = {}

    def watch(name: str) -> None:
        def add(layer: nn.Module, _: object, output: Tensor) -> None:
            maps = output.movedim(-1, 1) if isinstance(layer, nn.Linear) else output
            if maps.ndim != 4:  # a channel that is one number, or a row of them
                maps = maps.reshape(*maps.shape[:2], 1, -1)
            rank = torch.linalg.matrix_rank(maps.relu())
            totals[name] = totals.get(name, 0) + rank.sum(0).double()

        module.get_submodule(name).register_forward_hook(add)

    for name in {tied.layer for group in groups for tied in group.norms or group.producers}:
        watch(name)
    seen = 0
    for pixels, _ in batches:
        taken = pixels[: RANK_IMAGES - seen]
        module(taken)
        seen += len(taken)
        if seen == RANK_IMAGES:
            break
    return Evidence(map_rank={name: total / seen for name, total in totals.items()})
