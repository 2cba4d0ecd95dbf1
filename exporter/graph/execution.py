"""What ONNX Runtime really executes for a file: integer kernels, and what stayed float.

A QDQ file is written in float operators between QuantizeLinear and DequantizeLinear. Which of them
become integer kernels is decided when a session loads, so the session's own optimized graph is
read back. It names its types nowhere; they are followed from the inputs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from exporter.errors import GraphError
from exporter.graph import optimize_file
from exporter.graph.wiring import Wiring, int_attribute

CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
_INTEGERS = {TensorProto.INT8, TensorProto.UINT8}
_INDICES = {TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL}
_EXCEPTIONS = "onnxruntime.capi.onnxruntime_pybind11_state."
_RENAMED = re.compile(r"^fused |(_token_\d+|_nchwc)+$")
"""What ONNX Runtime adds to the name of a node that it replaces."""
_FUSED = re.compile(r"^(Fused|QLinear)")
"""What it puts in front of the operator."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Executed:
    """One operator of the optimized graph."""

    name: str
    """The node's name in the file, where ONNX Runtime kept it."""
    operator: str
    integer: bool
    """Whether it works on 8-bit data."""


def executed_graph(path: Path) -> ModelProto:
    """Return the optimized graph of a file that nobody vouches for, made by a child process.

    Raises:
        GraphError: ONNX Runtime refuses the file, or it takes too much memory or time.
    """
    with tempfile.TemporaryDirectory(prefix="optimized-") as folder:
        destination = Path(folder) / "optimized.onnx"
        # -P: the program must not find our modules in place of the standard library's.
        command = [sys.executable, "-P", optimize_file.__file__, str(path), str(destination)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=10 * optimize_file.MAX_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise GraphError(f"{path} keeps ONNX Runtime busy for too long.") from error
        if done.returncode < 0:
            raise GraphError(
                f"{path} takes ONNX Runtime more than {optimize_file.MAX_SECONDS} seconds or "
                f"{optimize_file.MAX_MEMORY // 2**30} GiB, or makes it crash "
                f"(signal {-done.returncode})."
            )
        if done.returncode > 0:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise GraphError(f"ONNX Runtime refuses {path}: {last.removeprefix(_EXCEPTIONS)}")
        return onnx.load(destination)


def executed_operators(optimized: ModelProto, source: ModelProto) -> list[Executed]:
    """Return the operators of an optimized graph in execution order, without shape arithmetic.

    Args:
        optimized: what ONNX Runtime made of ``source``.
        source: the graph as it stands in the file, which knows the names.
    """
    types = {tensor.name: tensor.data_type for tensor in optimized.graph.initializer}
    types |= {info.name: info.type.tensor_type.elem_type for info in optimized.graph.input}
    integer: dict[int, bool] = {}
    for index, node in enumerate(optimized.graph.node):
        integer[index] = _is_integer(node, types)
        types.update((name, _output_type(node, types)) for name in node.output)
    named, wiring = {node.name: node for node in source.graph.node}, Wiring.of(source.graph)
    return [
        Executed(
            name=original_name(node, named, wiring),
            operator=node.op_type,
            integer=integer[index],
        )
        for index, node in enumerate(optimized.graph.node)
        if types.get(node.output[0]) not in _INDICES
    ]


def original_name(node: NodeProto, named: dict[str, NodeProto], wiring: Wiring) -> str:
    """Return the name of the node that ``node`` is or contains.

    Some are called after the tensor they write; a convolution that swallowed the activation behind
    it writes the activation's.
    """
    name = _RENAMED.sub("", node.name)
    operator = _FUSED.sub("", node.op_type)
    found = named.get(name) or wiring.producer.get(name)
    while found is not None and found.op_type != operator:
        found = wiring.producer.get(found.input[0]) if found.input else None
    return found.name if found is not None else name


def _is_integer(node: NodeProto, types: dict[str, int]) -> bool:
    if node.op_type in CONVERSIONS:
        return False
    if "Integer" in node.op_type or node.op_type.startswith(("QLinear", "QGemm", "DynamicQuant")):
        return True
    return bool(node.input) and types.get(node.input[0]) in _INTEGERS


def _output_type(node: NodeProto, types: dict[str, int]) -> int:
    if node.op_type == "DequantizeLinear":
        return TensorProto.FLOAT
    if node.op_type == "QuantizeLinear":
        return (
            types.get(node.input[2], TensorProto.UINT8)
            if len(node.input) > 2
            else TensorProto.UINT8
        )
    if node.op_type == "QGemm":
        # Without a scale and zero point for its output, QGemm writes float.
        return types.get(node.input[8], 0) if len(node.input) > 8 else TensorProto.FLOAT
    if node.op_type == "QLinearConcat":
        return types.get(node.input[1], TensorProto.UINT8)
    if node.op_type == "Cast":
        return int_attribute(node, "to", TensorProto.FLOAT)
    if node.op_type in ("Shape", "Size", "ArgMax", "ArgMin", "NonZero"):
        return TensorProto.INT64
    if node.op_type in ("ConvInteger", "MatMulInteger"):
        return TensorProto.INT32
    if node.op_type in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul"):
        return TensorProto.FLOAT
    return types.get(node.input[0], TensorProto.FLOAT) if node.input else TensorProto.FLOAT
