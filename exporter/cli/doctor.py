"""`doctor`: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter.artifacts import Cache
from exporter.cli.answer import Answer, to_json
from exporter.cli.command import command

if TYPE_CHECKING:
    from exporter.doctor import Diagnosis

MARKS = {
    "ok": Text("ok", style="green"),
    "note": Text("note", style="yellow"),
    "missing": Text("MISSING", style="bold red"),
}


@command()
def doctor(
    cache: Cache,
    data_root: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Where datasets are looked for.", show_default=True),
    ] = Path("data"),
) -> Answer:
    """Check versions, CPU and datasets; say what is missing and how to get it."""
    from exporter.doctor import diagnose

    diagnosis = diagnose(cache.root, data_root)
    return Answer(
        json=to_json(diagnosis),
        draw=lambda console: draw(diagnosis, console),
        code=0 if diagnosis.healthy else 1,
    )


def draw(diagnosis: Diagnosis, console: Console) -> None:
    """Show one line per check, with the remedy below what needs one."""
    table = Table.grid(padding=(0, 2))
    for check in diagnosis.checks:
        table.add_row(MARKS[check.status], check.name, Text(check.found, overflow="fold"))
        if check.remedy:
            table.add_row("", "", Text(check.remedy, style="bold", overflow="fold"))
    console.print(table)
    console.print(
        "Everything a build needs is here."
        if diagnosis.healthy
        else "Something a build needs is missing."
    )
