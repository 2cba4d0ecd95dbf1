"""Operators of a file beside those of the float file it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from exporter.explanation.profile import OperatorTime
from exporter.graph.execution import CONVERSIONS, original_name
from exporter.graph.wiring import Wiring

_ARITHMETIC_OF_SHAPES = {"Constant", "Shape"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One operator as it is executed."""

    name: str
    """Its name in the file: a layer's, where it is one."""
    operator: str
    """As ONNX Runtime calls it."""
    integer: bool
    """Whether it computes on 8-bit data."""
    ms: float
    """Its part of the time of one run."""
    baseline_operator: str | None
    """The operator of the same name in the baseline; None where there is none."""
    baseline_ms: float | None
    """Its part of the time of one run there."""
    float_reason: str | None
    """Why it computes in float in a quantized file; None for conversions and where it does not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fused:
    """An operator that stands in the file and is not executed by itself."""

    name: str
    operator: str
    into: str | None
    """The executed operator that computes it; None where it fell away."""


def named(operators: Sequence[OperatorTime], source: ModelProto) -> list[tuple[str, OperatorTime]]:
    """Return executed operators with the names that they have in the file."""
    nodes, wiring = {node.name: node for node in source.graph.node}, Wiring.of(source.graph)
    return [
        (
            original_name(NodeProto(name=entry.node, op_type=entry.operator), nodes, wiring),
            entry,
        )
        for entry in operators
    ]


def fused(executed: Sequence[str], source: ModelProto) -> tuple[Fused, ...]:
    """Return what of ``source`` is not among the ``executed`` names, conversions left out."""
    wiring, alive = Wiring.of(source.graph), set(executed)
    return tuple(
        Fused(name=node.name, operator=node.op_type, into=_into(node, wiring, alive))
        for node in source.graph.node
        if node.name not in alive and node.op_type not in {*CONVERSIONS, *_ARITHMETIC_OF_SHAPES}
    )


def _into(node: NodeProto, wiring: Wiring, alive: set[str]) -> str | None:
    """Return the nearest executed operator before ``node``, through conversions."""
    before: NodeProto | None = node
    while before is not None and before.input:
        before = wiring.producer.get(before.input[0])
        if before is not None and before.name in alive:
            return before.name
    return None
