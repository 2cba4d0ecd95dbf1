"""What a network costs: parameters, multiply-accumulates, bytes of its int8 file, milliseconds.

The first two are counted on the torch module, and agree with what ``exporter.graph.count`` finds in
its ONNX file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from exporter.contract import InputContract
from exporter.targets import Target

Cost = Callable[[nn.Module], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """Where the file will run: what a budget in bytes or milliseconds depends on."""

    target: Target
    machine: str
    """Part of a cached result's key where times decided it: they hold on this machine alone. Empty
    where only bytes count, which are the same everywhere."""
    times: Path = field(compare=False)
    """Folder with the table of measured times."""


def count_parameters(module: nn.Module) -> int:
    """Return the weights and biases of the convolutions and linears, as their ONNX file has them.

    Each counts with a bias per output: where it has none, the batch-norm that is folded into it
    brings one. Where there is neither, the file has a few less.
    """
    return sum(weight.numel() + len(weight) for weight in _weights(module))


def count_macs(module: nn.Module, contract: InputContract) -> int:
    """Return the multiply-accumulates of one image, those of convolutions and linears."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        # Of a convolution's output [1, C, H, W] and a linear's [1, ..., C], every element is a sum
        # over one row of weights.
        total += output.numel() * layer.get_parameter("weight")[0].numel()

    handles = [layer.register_forward_hook(count) for layer in _layers(module)]
    with torch.no_grad():
        module.eval()(torch.zeros(1, contract.channels, contract.height, contract.width))
    for handle in handles:
        handle.remove()
    return total


def count_tensor_bytes(module: nn.Module) -> int:
    """Return about the bytes that an int8 file needs for its weights.

    Per weight one; per output channel four each for the bias, its scale and its zero point, four
    for the weights' scale and one for their zero point.
    """
    return sum(weight.numel() + 17 * len(weight) for weight in _weights(module))


def _weights(module: nn.Module) -> list[Tensor]:
    return [layer.get_parameter("weight") for layer in _layers(module)]


def _layers(module: nn.Module) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
