"""What would make an int8 file faster, from what its layers look like and what they take.

The rules were measured with ONNX Runtime 1.32 on a CPU with AVX512-VNNI. Integer convolutions take
a slow kernel where channels are no multiple of 4: 30 of them take longer than 32. Depthwise and
grouped ones are slower than in float, depthwise ones least at multiples of 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import ModelProto, NodeProto

from exporter.explanation.rows import Row
from exporter.graph.execution import CONVERSIONS
from exporter.graph.reasons import reason_for_float
from exporter.graph.wiring import Wiring, int_attribute

BLOCK = 4
"""Channels that an integer convolution must have a multiple of for its quick kernel ..."""
DEPTHWISE_BLOCK = 16
"""... and a depthwise one."""
RESOLUTION_MS = 0.001
"""What an operator must take longer than in float to be called slower: a step of the profile."""
WORTH_TELLING = 0.03
"""Share of a run that a piece of advice must concern."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Advice:
    """Something to change, and what it is about."""

    text: str
    ms: float
    """Time of the operators that it concerns: what could be gained at most."""
    layers: tuple[str, ...]


def advise(rows: Sequence[Row], source: ModelProto) -> tuple[Advice, ...]:
    """Return what to change, the most time first; nothing for a file without integer kernels.

    Args:
        rows: the operators of the file, with their times.
        source: its graph as it stands in the file.
    """
    if not any(row.integer for row in rows):
        return ()
    wiring = Wiring.of(source.graph)
    convolutions = {node.name: node for node in source.graph.node if node.op_type == "Conv"}
    found: dict[str, list[Row]] = {}
    for row in rows:
        for text in _texts(row, convolutions.get(row.name), wiring):
            found.setdefault(text, []).append(row)
    least = WORTH_TELLING * sum(row.ms for row in rows)
    advice = [
        Advice(text=text, ms=sum(row.ms for row in about), layers=tuple(row.name for row in about))
        for text, about in found.items()
    ]
    return tuple(sorted((a for a in advice if a.ms >= least), key=lambda entry: -entry.ms))


def _texts(row: Row, convolution: NodeProto | None, wiring: Wiring) -> list[str]:
    if row.operator in CONVERSIONS:
        return ["fewer float operators: each is surrounded by conversions"]
    if row.operator == "Transpose":
        return ["operators that keep channels last: here layouts are changed"]
    if not row.integer:
        return [f"another operator: {row.operator} {reason_for_float(row.operator)}"]
    texts = [] if convolution is None else _shape(convolution, wiring)
    if row.baseline_ms is not None and row.ms > row.baseline_ms + RESOLUTION_MS:
        texts.append("more channels, or leaving it in float: in int8 it is slower")
    return texts


def _shape(convolution: NodeProto, wiring: Wiring) -> list[str]:
    weight = wiring.weight_behind(convolution.input[1])
    if weight is None:
        return []
    outputs, inputs = weight.dims[0], weight.dims[1]
    group = int_attribute(convolution, "group", 1)
    if group == outputs and inputs == 1:
        if outputs % DEPTHWISE_BLOCK:
            return [
                f"a multiple of {DEPTHWISE_BLOCK} channels: others are slow in depthwise layers"
            ]
        return ["fewer, wider layers: depthwise ones gain little from int8"]
    if group > 1:
        return ["group 1: grouped convolutions gain nothing from int8"]
    if inputs < BLOCK:
        return [f"{BLOCK} input channels: with {inputs} the kernel is slow"]
    if outputs % BLOCK or inputs % BLOCK:
        return [f"channels in multiples of {BLOCK}: with others the kernel is slow"]
    return []
