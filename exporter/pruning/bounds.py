"""Between what values a layer's inputs lie, proven from the weights and the range of pixels.

The network runs once on blank images while every torch function that it calls is looked up in
``interval_rules``; bounds follow the tensors. They are loose in deep networks, and never too tight.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from exporter.contract import InputContract
from exporter.pruning.evidence import Layer, weighted_layers
from exporter.pruning.interval import Bounds, anything
from exporter.pruning.interval_rules import RULES
from exporter.training.augmentation import normalise


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """What reaches the layers of a network."""

    reads: Mapping[str, Bounds]
    """Per convolution and linear, the bounds of its inputs over all images: ``[in]``."""
    norm_after: Mapping[str, str]
    """The batch-norm that reads a layer's outputs, where nothing else reads them."""


@torch.no_grad()
def trace_bounds(module: nn.Module, contract: InputContract) -> Flow:
    """Return what is proven of the inputs of every layer, for any image under ``contract``."""
    twin = copy.deepcopy(module).eval()
    followed = _Followed()
    reads: dict[str, list[Bounds]] = {}
    runs: Counter[str] = Counter()
    norm_after: dict[str, str] = {}

    def watch_layer(name: str, layer: Layer) -> None:
        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            image = isinstance(layer, nn.Conv2d)
            # A linear layer that reads more than two dimensions has its channels last.
            known = inputs[0].ndim == (4 if image else 2)
            width = layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
            reads.setdefault(name, []).append(
                followed.known(inputs[0]) if known else anything(width)
            )
            runs[name] += 1

        def after(_: nn.Module, __: object, output: Tensor) -> None:
            followed.made_by[id(output)] = (output, name)

        layer.register_forward_pre_hook(before)
        layer.register_forward_hook(after)

    def watch_norm(name: str, norm: nn.Module) -> None:
        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            runs[name] += 1
            if id(inputs[0]) in followed.made_by:
                norm_after[followed.made_by[id(inputs[0])][1]] = name

        norm.register_forward_pre_hook(before)

    for name, layer in weighted_layers(twin).items():
        watch_layer(name, layer)
    for name, norm in twin.named_modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            watch_norm(name, norm)
    pixels, bounds = _pixels(contract)
    followed.remember(pixels, bounds)
    with followed:
        twin(pixels)
    return Flow(
        reads={name: _hull(found) for name, found in reads.items()},
        norm_after={
            layer: norm
            for layer, norm in norm_after.items()
            if runs[layer] == runs[norm] == followed.readers[layer] == 1
        },
    )


class _Followed(TorchFunctionMode):
    """Carries bounds along with the tensors of one run."""

    def __init__(self) -> None:
        super().__init__()
        # Tensors are kept beside what is known of them, so that no other takes over their id.
        self._known: dict[int, tuple[Tensor, Bounds]] = {}
        self.made_by: dict[int, tuple[Tensor, str]] = {}
        """Outputs of layers, with the layer's name."""
        self.readers: Counter[str] = Counter()
        """How many operators read what a layer puts out."""

    def known(self, tensor: Tensor) -> Bounds:
        found = self._known.get(id(tensor))
        return found[1] if found else anything(tensor.shape[1])

    def remember(self, tensor: Tensor, bounds: Bounds) -> None:
        self._known[id(tensor)] = (tensor, bounds)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        sources = [self.made_by[id(arg)][1] for arg in _flat(args) if id(arg) in self.made_by]
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor):
            return result
        self.readers.update(sources)
        if result.ndim >= 2:
            self.remember(result, self._bounds(func.__name__.strip("_"), result, args, kwargs))
        return result

    def _bounds(
        self, name: str, result: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Bounds:
        if name in RULES:
            try:
                call = inspect.signature(RULES[name]).bind(self.known, result, *args, **kwargs)
            except TypeError:  # called in a way that the rule has no answer to
                return anything(result.shape[1])
            bounds = RULES[name](*call.args, **call.kwargs)
            if len(bounds.low) == result.shape[1]:
                return bounds
        return anything(result.shape[1])


def _flat(args: Sequence[Any]) -> list[Any]:
    """Return the arguments with those in lists, as a concatenation takes them."""
    return [leaf for arg in args for leaf in (arg if isinstance(arg, list | tuple) else [arg])]


def _pixels(contract: InputContract) -> tuple[Tensor, Bounds]:
    """Return two blank images and the bounds of any."""
    darkest, brightest = (
        normalise(
            torch.full((2, contract.height, contract.width, 3), byte, dtype=torch.uint8), contract
        )
        for byte in (0, 255)
    )
    ends = torch.stack([darkest[0, :, 0, 0], brightest[0, :, 0, 0]]).double()
    # Contiguous: a network may flatten with ``view``.
    return darkest.contiguous(), Bounds(low=ends.amin(0), high=ends.amax(0))


def _hull(found: Sequence[Bounds]) -> Bounds:
    return Bounds(
        low=torch.stack([bounds.low for bounds in found]).amin(0),
        high=torch.stack([bounds.high for bounds in found]).amax(0),
    )
