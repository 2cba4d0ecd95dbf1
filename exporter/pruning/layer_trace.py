"""What a network asks of the runtime for one image, layer by layer.

One blank image runs through the network under torch's dispatch mode, which sees every operator that
is executed, those of modules and those called as functions alike. Batch-norms and ReLUs are left
out: in the int8 file they are part of the convolution in front of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from exporter.contract import InputContract
from exporter.pruning.layer_shapes import Kind, LayerShape, Pair


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


def _multiply(args: Sequence[Any], output: Tensor) -> LayerShape | None:
    both = [term for term in args[:2] if isinstance(term, Tensor)]
    if output.ndim != 4 or len(both) < 2:
        return None
    return _same_channels("multiply", output, _size(output))


def _concat(args: Sequence[Any], output: Tensor) -> LayerShape | None:
    parts = args[0]
    if output.ndim != 4 or args[1:] != (1,):
        return None
    return LayerShape(
        kind="concat",
        inputs=output.shape[1] // len(parts),
        outputs=output.shape[1] // len(parts) * len(parts),
        size=_size(output),
        out_size=_size(output),
        groups=len(parts),
    )


def _view(args: Sequence[Any], output: Tensor) -> LayerShape | None:
    # The runtime keeps channels last, and has to reorder them wherever planes are taken apart.
    image = args[0]
    if image.ndim != 4 or _size(image) == (1, 1):
        return None
    if output.ndim == 5:
        return replace(_same_channels("shuffle", image, _size(image)), groups=output.shape[1])
    if output.ndim != 2:
        return None
    return LayerShape(
        kind="flatten",
        inputs=image.shape[1],
        outputs=output.shape[1],
        size=_size(image),
        out_size=(1, 1),
    )


def _activation(kind: Kind) -> Callable[[Sequence[Any], Tensor], LayerShape | None]:
    def shape(args: Sequence[Any], output: Tensor) -> LayerShape | None:
        return _same_channels(kind, output, _size(output)) if output.ndim == 4 else None

    return shape


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
    _ATEN.mul.Tensor: _multiply,
    _ATEN.mul_.Tensor: _multiply,
    _ATEN.cat.default: _concat,
    _ATEN.view.default: _view,
    _ATEN._unsafe_view.default: _view,
    _ATEN.silu.default: _activation("silu"),
    _ATEN.silu_.default: _activation("silu"),
    _ATEN.hardswish.default: _activation("hard-swish"),
    _ATEN.hardswish_.default: _activation("hard-swish"),
    _ATEN.sigmoid.default: _activation("sigmoid"),
    _ATEN.hardsigmoid.default: _activation("hard-sigmoid"),
    _ATEN.hardsigmoid_.default: _activation("hard-sigmoid"),
}


def _size(tensor: Tensor) -> Pair:
    return int(tensor.shape[-2]), int(tensor.shape[-1])


def _pair(values: Sequence[int]) -> Pair:
    return int(values[0]), int(values[-1])
