"""What data-driven criteria look at: activations and gradients, streamed over calibration images.

Memory is one batch plus one number per channel and per weight, whatever the number of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from exporter.pruning.groups import Group

Batches = Iterable[tuple[Tensor, Tensor]]
"""Normalised pixels ``[N, 3, H, W]`` with labels ``[N]``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Statistics over the calibration images, in the float64 they were summed in."""

    input_mean: Mapping[str, Tensor]
    """Per layer, the mean of |a| of each of its inputs (a convolution's channels): ``[in]``."""
    input_norm: Mapping[str, Tensor]
    """Per layer, the root mean square of each input: ``[in]``."""
    gradient: Mapping[str, Tensor]
    """Per layer, the mean over batches of |dL/dw| of each weight, in the weight's shape."""


def gather_evidence(module: nn.Module, batches: Batches) -> Evidence:
    """Run forward and backward over ``batches``; the network itself is left as it was."""
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    absolute: dict[str, Tensor] = {}
    square: dict[str, Tensor] = {}
    values = dict.fromkeys(layers, 0)
    gradient = {
        name: torch.zeros_like(layer.weight, dtype=torch.float64)
        for name, layer in layers.items()
        if layer.weight.requires_grad
    }

    def watch(name: str) -> object:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # Channels first; a linear layer's inputs are its channels.
            channels = inputs[0].detach().transpose(0, 1).flatten(1).double()
            absolute[name] = absolute.get(name, 0) + channels.abs().sum(1)
            square[name] = square.get(name, 0) + channels.square().sum(1)
            values[name] += channels.shape[1]

        return layers[name].register_forward_pre_hook(hook)

    handles = [watch(name) for name in layers]
    count = 0
    module.eval()
    for pixels, labels in batches:
        module.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(module(pixels), labels)
        torch.autograd.backward(loss)
        for name, total in gradient.items():
            gradient_now = layers[name].weight.grad
            if gradient_now is not None:
                total += gradient_now.abs()
        count += 1
    module.zero_grad(set_to_none=True)
    for handle in handles:
        handle.remove()  # type: ignore[attr-defined]
    return Evidence(
        input_mean={name: absolute[name] / values[name] for name in layers},
        input_norm={name: (square[name] / values[name]).sqrt() for name in layers},
        gradient={name: total / count for name, total in gradient.items()},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Channels:
    """One group as a criterion sees it: everything with one row per channel."""

    incoming: Tensor
    """``[C, n]``: the weights that produce each channel, all tied layers side by side."""
    outgoing: Tensor
    """``[C, m]``: the weights that consume it."""
    gradient: Tensor
    """``[C, n]``: mean |dL/dw| of the incoming weights."""
    activation_mean: Tensor
    """``[C]``: mean |a| as the consumers see it."""
    activation_norm: Tensor
    """``[C]``: root mean square of a as the consumers see it."""
    alpha: float
    """The article's coefficient between weights and activations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """One layer as a criterion for single weights sees it."""

    weight: Tensor
    """``[out, in, ...]``"""
    gradient: Tensor
    """Mean |dL/dw| in the same shape."""
    activation_mean: Tensor
    """Mean |a| of the inputs, shaped to multiply with ``weight``."""
    activation_norm: Tensor
    """Root mean square of the inputs, shaped likewise."""
    alpha: float


def view_channels(module: nn.Module, group: Group, evidence: Evidence, alpha: float) -> Channels:
    """Return what is known of a group's channels."""

    def rows(tensors: Sequence[tuple[Tensor, Sequence[tuple[int, ...]]]]) -> Tensor:
        parts = [
            tensor[torch.tensor(positions)].double().reshape(len(positions), -1)
            for tensor, positions in tensors
        ]
        return torch.cat(parts, dim=1)

    def weight(layer: str) -> Tensor:
        return module.get_parameter(f"{layer}.weight").detach()

    return Channels(
        incoming=rows([(weight(tied.layer), tied.positions) for tied in group.producers]),
        outgoing=rows(
            [(weight(tied.layer).transpose(0, 1), tied.positions) for tied in group.consumers]
        ),
        gradient=rows(
            [(evidence.gradient[tied.layer], tied.positions) for tied in group.producers]
        ),
        activation_mean=rows(
            [(evidence.input_mean[tied.layer], tied.positions) for tied in group.consumers]
        ).mean(1),
        activation_norm=rows(
            [(evidence.input_norm[tied.layer].square(), tied.positions) for tied in group.consumers]
        )
        .mean(1)
        .sqrt(),
        alpha=alpha,
    )


def view_weights(layer: str, weight: Tensor, evidence: Evidence, alpha: float) -> Weights:
    """Return what is known of a layer's single weights."""
    shape = (1, -1, *[1] * (weight.ndim - 2))
    return Weights(
        weight=weight.detach().double(),
        gradient=evidence.gradient[layer],
        activation_mean=evidence.input_mean[layer].reshape(shape),
        activation_norm=evidence.input_norm[layer].reshape(shape),
        alpha=alpha,
    )
