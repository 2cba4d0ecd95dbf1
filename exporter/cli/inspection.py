"""`inspect`: what an ONNX file contains, and what ONNX Runtime makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exporter.cli.answer import Answer, details
from exporter.cli.command import command


@command()
def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Float or int8 model.")],
) -> Answer:
    """Show operators, int8 coverage as executed, sizes, metadata and the input contract."""
    from exporter.graph.inspect import inspect_file

    return details(inspect_file(model))
