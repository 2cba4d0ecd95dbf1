"""`inspect`: what an ONNX file contains, and what ONNX Runtime makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter.artifacts import Cache
from exporter.cli.answer import Answer, shown, to_json
from exporter.cli.command import command

if TYPE_CHECKING:
    from exporter.contract import InputContract
    from exporter.graph.inspect import Inspection, Tensor
    from exporter.quantization.audit import LayerAudit, SaturationAudit


@command()
def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Float or int8 model.")],
    cache: Cache,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="digits, cifar10 or a folder of images, to measure saturation on its calibration "
            "images. \\[default: none, saturation is proven from the weights alone]",
            show_default=False,
        ),
    ] = "",
) -> Answer:
    """Show operators, int8 coverage as executed, saturation, sizes and the input contract."""
    from exporter.quantization.inspect_on_images import inspect_on_images

    seen = inspect_on_images(model, data, cache)
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
    if seen.quantized:
        yield from _saturation(seen.saturation)
    if seen.contract is None:
        yield "input contract", "none; this program did not make the file"
    else:
        contract = seen.contract
        size = f"{contract.height}x{contract.width} RGB, resized by {contract.resize}"
        yield "input contract", f"{size}, {_normalization(contract)}"
        yield "classes", f"{len(contract.classes)}: {', '.join(contract.classes)}"
    for key, value in seen.metadata.items():
        yield f"metadata {key}", value


def _saturation(audit: SaturationAudit) -> Iterator[tuple[str, str]]:
    label = "saturation without VNNI"
    risky = [layer for layer in audit.layers if not layer.safe]
    if not audit.layers:
        yield label, "not audited; that takes layers in QDQ form"
    elif not risky:
        yield label, f"impossible, proven for all {len(audit.layers)} integer layers"
    else:
        where = f"measured on {audit.images} images" if audit.images else "measured with --data"
        yield label, f"possible in {len(risky)} of {len(audit.layers)} integer layers; {where}"
    for layer in risky:
        yield "  may saturate", f"{layer.operator} {layer.name}: {_shares(layer)}"


def _shares(layer: LayerAudit) -> str:
    text = f"{layer.weight_bits}-bit weights, {100 * layer.risky_share:.2g} % of their pairs risky"
    if layer.clipped_share is None or layer.largest_error is None:
        return text
    return (
        f"{text}, {100 * layer.clipped_share:.2g} % of the sums clipped, largest error "
        f"{100 * layer.largest_error:.2g} % of the largest output"
    )


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
