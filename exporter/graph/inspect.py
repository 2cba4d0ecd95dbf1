"""What is in an ONNX file, and what ONNX Runtime makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from exporter.contract import InputContract
from exporter.errors import GraphError
from exporter.graph.count import COUNTED, count_macs, count_parameters
from exporter.graph.execution import CONVERSIONS, executed_graph, executed_operators
from exporter.graph.limits import read_model
from exporter.graph.metadata import read_contract, read_metadata
from exporter.graph.reasons import reason_for_float
from exporter.graph.wiring import Wiring
from exporter.quantization.audit import SaturationAudit, audit_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """An input or output of the network."""

    name: str
    type: str
    """As numpy names it."""
    shape: tuple[int | str, ...]
    """A name stands for a size the caller chooses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatOperator:
    """An operator that is executed in float."""

    name: str
    operator: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """A file, and its execution by the ONNX Runtime that is installed here, on this CPU."""

    path: str
    bytes: int
    weight_bytes: int
    """Of these, bytes of weights and other constants."""
    opset: int
    ir_version: int
    producer: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: Mapping[str, int]
    """As written in the file."""
    parameters: int | None
    """None where no layer is of a kind that is counted (see ``count``)."""
    macs: int | None
    """Of one image; None also where sizes depend on the input."""
    quantized: bool
    """Whether the file asks for integer arithmetic at all."""
    integer: Mapping[str, int]
    """Operators executed on 8-bit data."""
    floating: Mapping[str, int]
    """Operators executed in float, conversions included."""
    float_operators: tuple[FloatOperator, ...]
    """Those of them that compute, where the file is quantized."""
    saturation: SaturationAudit
    """Its integer layers, in QDQ form; others are not listed."""
    contract: InputContract | None
    """None if this tool did not make the file."""
    metadata: Mapping[str, str]


def inspect_file(path: Path) -> Inspection:
    """Return what is known about the file ``path``; it may come from anywhere.

    Raises:
        GraphError: it is missing, damaged, not allowed (see ``limits``) or refused by ONNX Runtime.
    """
    model = read_model(path)
    executed = executed_operators(executed_graph(path), model)
    quantized = _is_quantized(model)
    counts = any(node.op_type in COUNTED for node in model.graph.node)
    return Inspection(
        path=str(path),
        bytes=path.stat().st_size,
        weight_bytes=sum(numpy_helper.to_array(t).nbytes for t in model.graph.initializer),
        opset=max(
            (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
            default=0,
        ),
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=_tensors(model, model.graph.input),
        outputs=_tensors(model, model.graph.output),
        operators=_counted(node.op_type for node in model.graph.node),
        parameters=count_parameters(model) if counts else None,
        macs=_macs(model) if counts else None,
        quantized=quantized,
        integer=_counted(entry.operator for entry in executed if entry.integer),
        floating=_counted(entry.operator for entry in executed if not entry.integer),
        float_operators=tuple(
            FloatOperator(
                name=entry.name,
                operator=entry.operator,
                reason=reason_for_float(entry.operator),
            )
            for entry in executed
            if quantized and not entry.integer and entry.operator not in CONVERSIONS
        ),
        saturation=SaturationAudit(layers=audit_weights(model), images=0),
        contract=_contract(model),
        metadata=read_metadata(model),
    )


def _is_quantized(model: ModelProto) -> bool:
    """Return whether any operator is an integer one, or any layer has 8-bit weights."""
    wiring = Wiring.of(model.graph)
    for node in model.graph.node:
        if node.op_type.startswith(("QLinear", "QGemm")) or "Integer" in node.op_type:
            return True
        weight = wiring.weight_behind(node.input[1]) if node.op_type in COUNTED else None
        if weight is not None and weight.data_type in (TensorProto.INT8, TensorProto.UINT8):
            return True
    return False


def _tensors(model: ModelProto, infos: Iterable[ValueInfoProto]) -> tuple[Tensor, ...]:
    # Before opset 9 or so, weights were listed among the inputs.
    weights = {tensor.name for tensor in model.graph.initializer}
    return tuple(
        Tensor(
            name=info.name,
            type=_type_name(info.type.tensor_type.elem_type),
            shape=tuple(
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
                for dim in info.type.tensor_type.shape.dim
            ),
        )
        for info in infos
        if info.name not in weights
    )


def _type_name(elem_type: int) -> str:
    try:
        return str(helper.tensor_dtype_to_np_dtype(elem_type))
    except (KeyError, TypeError, ValueError):
        return "not a tensor"


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _macs(model: ModelProto) -> int | None:
    try:
        return count_macs(model)
    except GraphError:
        return None


def _contract(model: ModelProto) -> InputContract | None:
    try:
        return read_contract(model)
    except GraphError:
        return None
