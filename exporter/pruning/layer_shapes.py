"""What a network asks of the runtime for one image: its layers with all that decides their time.

One blank image runs through the network under torch's dispatch mode, which sees every operator that
is executed, those of modules and those called as functions alike. Batch-norms and ReLUs are left
out: in the int8 file they are part of the convolution in front of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from exporter.contract import InputContract

Pair = tuple[int, int]
"""Rows and columns."""

Kind = Literal[
    "pad", "conv", "linear", "max-pool", "average-pool", "global-average-pool", "add", "flatten"
]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerShape:
    """A layer without its weights. Equal shapes take equal time."""

    kind: Kind
    inputs: int
    """Channels or features that are read."""
    outputs: int
    size: Pair
    """Pixels that are read; of a linear layer, its rows (1 for a plain classifier) and 1."""
    out_size: Pair
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def __str__(self) -> str:
        """Return the layer in one line: ``conv 24>32 31x31>31x31 kernel 3x3 padding 1x1``."""
        usual = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
        words = [
            self.kind,
            f"{self.inputs}>{self.outputs}",
            f"{_by(self.size)}>{_by(self.out_size)}",
        ]
        for name, value in usual.items():
            if getattr(self, name) != value:
                words += [name, _by(getattr(self, name))]
        if self.groups != 1:
            words += ["groups", str(self.groups)]
        return " ".join(words)


def trace_layers(module: nn.Module, contract: InputContract) -> tuple[LayerShape, ...]:
    """Return the layers of ``module``, on the CPU, that one image passes, in that order.

    Operators of other kinds than ``Kind`` names are left out.
    """
    trace = _Trace()
    training = module.training
    blank = torch.zeros(1, contract.channels, contract.height, contract.width)
    with torch.no_grad(), trace:
        module.eval()(blank)
    module.train(training)
    return tuple(_on_four_channels(trace.layers, contract) if contract.mean else trace.layers)


def _on_four_channels(layers: Sequence[LayerShape], contract: InputContract) -> list[LayerShape]:
    """Return the layers of a file that adds a channel to the pixels: ``graph.normalization``."""
    size, channels = (contract.height, contract.width), contract.channels
    pad = LayerShape(kind="pad", inputs=channels, outputs=channels + 1, size=size, out_size=size)
    return [
        pad,
        *(
            replace(layer, inputs=channels + 1)
            if (layer.kind, layer.inputs, layer.size, layer.groups) == ("conv", channels, size, 1)
            else layer
            for layer in layers
        ),
    ]


class _Trace(TorchDispatchMode):
    """Notes the layers among the operators that are executed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layers: list[LayerShape] = []

    def __torch_dispatch__(
        self,
        func: object,
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))  # type: ignore[operator]  # an operator of torch
        if func in _SHAPES:
            output = result[0] if isinstance(result, tuple) else result
            layer = _SHAPES[func](args, output)
            if layer is not None:
                self.layers.append(layer)
        return result


def _conv(args: Sequence[Any], output: Tensor) -> LayerShape | None:
    image, weight, _, stride, padding, dilation, transposed, _, groups = args
    if transposed or image.ndim != 4:
        return None
    return LayerShape(
        kind="conv",
        inputs=image.shape[1],
        outputs=output.shape[1],
        size=_size(image),
        out_size=_size(output),
        kernel=_size(weight),
        stride=_pair(stride),
        padding=_pair(padding),
        dilation=_pair(dilation),
        groups=groups,
    )


def _addmm(args: Sequence[Any], output: Tensor) -> LayerShape:
    return _mm(args[1:], output)


def _mm(args: Sequence[Any], output: Tensor) -> LayerShape:
    rows = args[0]
    size = (rows.shape[0], 1)
    return LayerShape(
        kind="linear", inputs=rows.shape[1], outputs=output.shape[1], size=size, out_size=size
    )


def _max_pool(args: Sequence[Any], output: Tensor) -> LayerShape:
    return _pool("max-pool", args, output)


def _average_pool(args: Sequence[Any], output: Tensor) -> LayerShape:
    return _pool("average-pool", args, output)


def _pool(kind: Kind, args: Sequence[Any], output: Tensor) -> LayerShape:
    image, kernel = args[:2]
    stride = args[2] if len(args) > 2 else []
    padding = args[3] if len(args) > 3 else [0]
    return LayerShape(
        kind=kind,
        inputs=image.shape[1],
        outputs=image.shape[1],
        size=_size(image),
        out_size=_size(output),
        kernel=_pair(kernel),
        stride=_pair(stride or kernel),
        padding=_pair(padding),
    )


def _mean(args: Sequence[Any], output: Tensor) -> LayerShape | None:
    image, dimensions = args[:2]
    if image.ndim != 4 or sorted(place % 4 for place in dimensions or ()) != [2, 3]:
        return None
    return _same_channels("global-average-pool", image, (1, 1))


def _add(args: Sequence[Any], output: Tensor) -> LayerShape | None:
    both = [term for term in args[:2] if isinstance(term, Tensor)]
    if output.ndim != 4 or [term.shape for term in both] != [output.shape] * 2:
        return None
    return _same_channels("add", output, _size(output))


def _flatten(args: Sequence[Any], output: Tensor) -> LayerShape | None:
    # The runtime keeps channels last; where several pixels are lined up, it has to reorder them.
    image = args[0]
    if image.ndim != 4 or output.ndim != 2 or _size(image) == (1, 1):
        return None
    return LayerShape(
        kind="flatten",
        inputs=image.shape[1],
        outputs=output.shape[1],
        size=_size(image),
        out_size=(1, 1),
    )


def _same_channels(kind: Kind, image: Tensor, out_size: Pair) -> LayerShape:
    channels = image.shape[1]
    return LayerShape(
        kind=kind, inputs=channels, outputs=channels, size=_size(image), out_size=out_size
    )


_ATEN = torch.ops.aten
_SHAPES: Mapping[object, Callable[[Sequence[Any], Tensor], LayerShape | None]] = {
    _ATEN.convolution.default: _conv,
    _ATEN.addmm.default: _addmm,
    _ATEN.mm.default: _mm,
    _ATEN.max_pool2d_with_indices.default: _max_pool,
    _ATEN.avg_pool2d.default: _average_pool,
    _ATEN.mean.dim: _mean,
    _ATEN.add.Tensor: _add,
    _ATEN.add_.Tensor: _add,
    _ATEN.view.default: _flatten,
    _ATEN._unsafe_view.default: _flatten,
}


def _size(tensor: Tensor) -> Pair:
    return int(tensor.shape[-2]), int(tensor.shape[-1])


def _pair(values: Sequence[int]) -> Pair:
    return int(values[0]), int(values[-1])


def _by(pair: Pair) -> str:
    return f"{pair[0]}x{pair[1]}"
