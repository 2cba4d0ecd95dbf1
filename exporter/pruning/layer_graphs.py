"""ONNX files of a single int8 layer, as the quantizer would write it, for measuring its time.

A convolution stands between two Transposes, which the runtime cancels against its channels-last
kernel. A pool, which it only turns into its own operator beside a convolution, is that operator.
Behind the layer a Slice takes one element, so that handing over the output costs nothing::

    input (uint8 [1, H, W, C]) -> layer ([1, H', W', C']) -> Slice -> output (one element)

Without the layer, ``input ([1, H', W', C']) -> Slice -> output`` is left; the difference of both
times is the layer's. Weights are random: the kernels' time depends neither on them nor on whether
they have seven bits or eight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from exporter.graph.canonical import IR_VERSION, OPSET
from exporter.pruning.layer_shapes import Kind, LayerShape, Pair

INPUT = "input"
OUTPUT = "output"
_LAYER = "layer"
_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
_SCALE = np.array(1 / 64, np.float32)
_QUANTIZED_BOTH_WAYS = ["scale", "zero_point"] * 2
_OWN_DOMAIN = "com.microsoft"


def layer_file(layer: LayerShape, *, per_channel: bool) -> bytes:
    """Return the file with the layer; ``per_channel`` gives every output's weights a scale."""
    graph = _Graph()
    _BUILDERS[layer.kind](graph, layer, per_channel)
    # Logits stay float; nothing quantizes them.
    kind = TensorProto.FLOAT if layer.kind == "linear" else TensorProto.UINT8
    return graph.finished(_LAYER, layer.input_shape, kind, rank=len(layer.output_shape))


def bare_file(layer: LayerShape) -> bytes:
    """Return the file without the layer, which takes what the layer would put out."""
    shape = layer.output_shape
    return _Graph().finished(INPUT, shape, TensorProto.UINT8, rank=len(shape))


class _Graph:
    """Nodes and constants, as they come."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.constant("scale", _SCALE)
        self.constant("zero_point", np.array(0, np.uint8))

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def kernel(self, operator: str, inputs: list[str], **attributes: Any) -> None:
        """Add one of the runtime's own operators, which works on channels-last bytes."""
        self.node(operator, inputs, _LAYER, domain=_OWN_DOMAIN, **attributes)

    def dequantize(self, source: str, output: str) -> str:
        return self.node("DequantizeLinear", [source, "scale", "zero_point"], output)

    def quantize(self, source: str, output: str) -> str:
        return self.node("QuantizeLinear", [source, "scale", "zero_point"], output)

    def planes(self) -> str:
        """Return the input as the quantizer's graphs have it: float, channels before pixels."""
        return self.dequantize(self.node("Transpose", [INPUT], "planes", perm=_TO_NCHW), "read")

    def from_planes(self, source: str) -> str:
        """Return the layer's output as its kernel writes it: bytes, channels last."""
        return self.node("Transpose", [self.quantize(source, "written")], _LAYER, perm=_TO_NHWC)

    def weights(self, shape: tuple[int, ...], *, per_channel: bool) -> list[str]:
        """Add int8 weights and an int32 bias; returns both as floats."""
        rng = np.random.default_rng(0)
        count = shape[:1] if per_channel else ()
        self.constant("weight", rng.integers(-127, 128, shape, dtype=np.int8))
        self.constant("weight_scale", np.full(count, _SCALE))
        self.constant("weight_zero_point", np.zeros(count, np.int8))
        self.constant("bias", np.zeros(shape[:1], np.int32))
        self.constant("bias_scale", np.full(count, _SCALE * _SCALE))
        self.constant("bias_zero_point", np.zeros(count, np.int32))
        return [
            self.node(
                "DequantizeLinear",
                [name, f"{name}_scale", f"{name}_zero_point"],
                f"{name}_float",
                axis=0,
            )
            for name in ("weight", "bias")
        ]

    def finished(self, source: str, shape: tuple[int, ...], kind: int, rank: int) -> bytes:
        """Return the file that takes ``shape`` and hands out one element of ``source``."""
        self.constant("starts", np.zeros(rank, np.int64))
        self.constant("ends", np.ones(rank, np.int64))
        self.node("Slice", [source, "starts", "ends"], OUTPUT)
        graph = helper.make_graph(
            self.nodes,
            "network",
            [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape)],
            [helper.make_tensor_value_info(OUTPUT, kind, [1] * rank)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_OWN_DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return bytes(model.SerializeToString())


def _pad(graph: _Graph, layer: LayerShape, per_channel: bool) -> None:
    pads = np.zeros(8, np.int64)  # at the starts of N, H, W, C, then at their ends
    pads[-1] = layer.outputs - layer.inputs
    graph.node("Pad", [INPUT, graph.constant("pads", pads), "zero_point"], _LAYER)


def _conv(graph: _Graph, layer: LayerShape, per_channel: bool) -> None:
    weights = graph.weights(
        (layer.outputs, layer.inputs // layer.groups, *layer.kernel), per_channel=per_channel
    )
    sums = graph.node(
        "Conv",
        [graph.planes(), *weights],
        "sums",
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=_both_ends(layer.padding),
        dilations=layer.dilation,
        group=layer.groups,
    )
    graph.from_planes(sums)


def _linear(graph: _Graph, layer: LayerShape, per_channel: bool) -> None:
    weights = graph.weights((layer.outputs, layer.inputs), per_channel=per_channel)
    graph.node("Gemm", [graph.dequantize(INPUT, "read"), *weights], _LAYER, transB=1)


def _max_pool(graph: _Graph, layer: LayerShape, per_channel: bool) -> None:
    graph.kernel("NhwcMaxPool", [INPUT], **_window(layer))


def _average_pool(graph: _Graph, layer: LayerShape, per_channel: bool) -> None:
    inputs = [INPUT, *_QUANTIZED_BOTH_WAYS]
    window = _window(layer)
    graph.kernel("QLinearAveragePool", inputs, channels_last=1, count_include_pad=1, **window)


def _global_average_pool(graph: _Graph, layer: LayerShape, per_channel: bool) -> None:
    graph.kernel("QLinearGlobalAveragePool", [INPUT, *_QUANTIZED_BOTH_WAYS], channels_last=1)


def _window(layer: LayerShape) -> dict[str, Any]:
    sides = zip(layer.size, layer.kernel, layer.stride, layer.padding, strict=True)
    whole = tuple((side + 2 * pad - kernel) // stride + 1 for side, kernel, stride, pad in sides)
    return {
        "kernel_shape": layer.kernel,
        "strides": layer.stride,
        "pads": _both_ends(layer.padding),
        "ceil_mode": int(whole != layer.out_size),
    }


def _add(graph: _Graph, layer: LayerShape, per_channel: bool) -> None:
    terms = [graph.dequantize(INPUT, name) for name in ("first", "second")]
    graph.quantize(graph.node("Add", terms, "sum"), _LAYER)


def _multiply(graph: _Graph, layer: LayerShape, per_channel: bool) -> None:
    factors = graph.constant("factors", np.ones((1, 1, 1, layer.inputs), np.uint8))
    terms = [graph.dequantize(INPUT, "first"), graph.dequantize(factors, "second")]
    graph.quantize(graph.node("Mul", terms, "product"), _LAYER)


def _concat(graph: _Graph, layer: LayerShape, per_channel: bool) -> None:
    parts = [graph.dequantize(INPUT, f"part_{index}") for index in range(layer.groups)]
    graph.quantize(graph.node("Concat", parts, "joined", axis=3), _LAYER)


def _silu(graph: _Graph, layer: LayerShape, per_channel: bool) -> None:
    sigmoid = graph.node("Sigmoid", [graph.dequantize(INPUT, "inner")], "sigmoid")
    gate = graph.dequantize(graph.quantize(sigmoid, "gate_quantized"), "gate")
    product = graph.node("Mul", [graph.dequantize(INPUT, "outer"), gate], "product")
    graph.quantize(product, _LAYER)


def _unary(operator: str) -> Callable[[_Graph, LayerShape, bool], None]:
    def build(graph: _Graph, layer: LayerShape, per_channel: bool) -> None:
        result = graph.node(operator, [graph.dequantize(INPUT, "read")], "result")
        graph.quantize(result, _LAYER)

    return build


def _flatten(graph: _Graph, layer: LayerShape, per_channel: bool) -> None:
    graph.node("Flatten", [graph.node("Transpose", [INPUT], "planes", perm=_TO_NCHW)], _LAYER)


def _shuffle(graph: _Graph, layer: LayerShape, per_channel: bool) -> None:
    # In whole planes. One half of them comes from a convolution, the other goes to the next one,
    # which is a Transpose of all of them; Flatten keeps it from being moved behind the Slice.
    parts = (layer.groups, layer.inputs // layer.groups)
    for name, shape in (("split", parts), ("joined", (layer.inputs,))):
        graph.constant(f"{name}_shape", np.array([1, *shape, *layer.size], np.int64))
    split = graph.node("Reshape", [INPUT, "split_shape"], "split")
    swapped = graph.node("Transpose", [split], "swapped", perm=(0, 2, 1, 3, 4))
    joined = graph.node("Reshape", [swapped, "joined_shape"], "joined")
    graph.node("Flatten", [graph.node("Transpose", [joined], "pixels", perm=_TO_NHWC)], _LAYER)


def _both_ends(padding: Pair) -> tuple[int, ...]:
    return padding + padding


_BUILDERS: Mapping[Kind, Callable[[_Graph, LayerShape, bool], None]] = {
    "pad": _pad,
    "conv": _conv,
    "linear": _linear,
    "max-pool": _max_pool,
    "average-pool": _average_pool,
    "global-average-pool": _global_average_pool,
    "flatten": _flatten,
    "add": _add,
    "multiply": _multiply,
    "concat": _concat,
    "shuffle": _shuffle,
    "silu": _silu,
    "hard-swish": _unary("HardSwish"),
    "sigmoid": _unary("Sigmoid"),
    "hard-sigmoid": _unary("HardSigmoid"),
}
