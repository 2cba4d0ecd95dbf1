"""The bundle on other machines: `check` over ssh, `merge` into the report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter.cli.answer import Answer
from exporter.cli.command import command
from exporter.cli.session import FAILED_GATE

if TYPE_CHECKING:
    from exporter.report.device import DeviceReport


@command()
def check(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE|FILE.zip", help="A bundle, as a folder or packed.")
    ],
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="USER@DEVICE",
            help="The device, as ssh takes it; it must be known and accept a key.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DEVICE.json",
            help="File that receives the answer, for `merge`. \\[default: none]",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FOLDER",
            help="Measure top-1 there on FOLDER/CLASS/image; read here, so the device needs no "
            "Pillow. \\[default: none]",
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", min=1, help="Threads of ONNX Runtime.", show_default=True)
    ] = 1,
    python: Annotated[
        str, typer.Option("--python", help="The Python there.", show_default=True)
    ] = "python3",
    temp: Annotated[
        str | None,
        typer.Option(
            "--temp",
            metavar="FOLDER",
            help="Folder there that takes the bundle for a while. \\[default: its usual one]",
        ),
    ] = None,
    ssh_config: Annotated[
        Path | None,
        typer.Option(
            "--ssh-config", metavar="FILE", help="For ssh -F. \\[default: your own settings]"
        ),
    ] = None,
) -> Answer:
    """Run a bundle's own checks on a device over ssh; nothing stays there. 1 if it fails them."""
    from exporter.device.check import check
    from exporter.device.ssh import Host

    checked = check(
        Host(name=host, python=python, config=ssh_config),
        bundle,
        data=data,
        threads=threads,
        temp=temp,
        out=out,
    )
    return Answer(
        json=checked.answer,
        draw=partial(draw, [checked.report]),
        code=0 if checked.report.passed else FAILED_GATE,
    )


@command()
def merge(
    report: Annotated[
        Path,
        typer.Argument(metavar="REPORT.json", help="A build's report, or the bundle it lies in."),
    ],
    devices: Annotated[
        list[Path],
        typer.Argument(metavar="DEVICE.json…", help="What `check` or run.py wrote with --out."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="MERGED.json",
            help="File that receives the report; the Markdown goes beside it.",
            show_default=True,
        ),
    ] = Path("report-with-devices.json"),
) -> Answer:
    """Put what devices measured into the report, as JSON and Markdown."""
    from exporter.device.merge import merge
    from exporter.report.json import dumps

    merged = merge(report, devices, out)
    return Answer(json=dumps(merged), draw=partial(draw, merged.devices))


def draw(devices: list[DeviceReport] | tuple[DeviceReport, ...], console: Console) -> None:
    """Show a table of devices, and a line on each."""
    from exporter.report.device import COLUMNS, device_notes, device_rows

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in COLUMNS:
        table.add_column(column)
    for row in device_rows(devices):
        table.add_row(*map(Text, row))
    console.print(table)
    for note in device_notes(devices):
        console.print(Text(note))
