"""`inspect`: what an ONNX file contains, and what ONNX Runtime makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter.cli.answer import Answer, shown, to_json
from exporter.cli.command import command

if TYPE_CHECKING:
    from exporter.contract import InputContract
    from exporter.graph.inspect import Inspection, Tensor


@command()
def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Float or int8 model.")],
) -> Answer:
    """Show operators, int8 coverage as executed, sizes, metadata and the input contract."""
    from exporter.graph.inspect import inspect_file

    seen = inspect_file(model)
    return Answer(json=to_json(seen), draw=lambda console: draw(seen, console))


def draw(seen: Inspection, console: Console) -> None:
    """Show an inspection, one line per fact."""
    table = Table.grid(padding=(0, 2))
    for label, text in _facts(seen):
        table.add_row(Text(label, style="bold", no_wrap=True), Text(text, overflow="fold"))
    console.print(table)


def _facts(seen: Inspection) -> Iterator[tuple[str, str]]:
    yield "file", f"{seen.path}, {seen.bytes:,} bytes, {seen.weight_bytes:,} of them constants"
    yield "format", f"opset {seen.opset}, IR version {seen.ir_version}, by {seen.producer or '?'}"
    for tensor in seen.inputs:
        yield "input", _tensor(tensor)
    for tensor in seen.outputs:
        yield "output", _tensor(tensor)
    yield "parameters", shown(seen.parameters)
    yield "multiply-adds of one image", shown(seen.macs)
    yield "operators in the file", _counts(seen.operators)
    yield "executed as integers", _counts(seen.integer)
    yield "executed in float", _counts(seen.floating)
    for operator in seen.float_operators:
        yield "  not an integer kernel", f"{operator.operator} {operator.name}: {operator.reason}"
    if seen.contract is None:
        yield "input contract", "none; this program did not make the file"
    else:
        contract = seen.contract
        size = f"{contract.height}x{contract.width} RGB, resized by {contract.resize}"
        yield "input contract", f"{size}, {_normalization(contract)}"
        yield "classes", f"{len(contract.classes)}: {', '.join(contract.classes)}"
    for key, value in seen.metadata.items():
        yield f"metadata {key}", value


def _normalization(contract: InputContract) -> str:
    if not contract.mean:
        return f"(pixel - {contract.zero_point}) * {contract.scale:g}"
    mean, std = (
        ", ".join(f"{value:.5g}" for value in values) for values in (contract.mean, contract.std)
    )
    return f"(pixel - [{mean}]) / [{std}]"


def _tensor(tensor: Tensor) -> str:
    return f"{tensor.name}: {tensor.type} [{', '.join(map(str, tensor.shape))}]"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
