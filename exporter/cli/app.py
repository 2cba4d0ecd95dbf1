"""The program: its commands, in the order of the help."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from exporter import __version__
from exporter.cli.build import build
from exporter.cli.bundles import pack, unpack, verify_bundle
from exporter.cli.compare import compare
from exporter.cli.devices import check, merge
from exporter.cli.doctor import doctor
from exporter.cli.emulation import setup_emulation
from exporter.cli.explain import explain
from exporter.cli.inspection import inspect
from exporter.cli.sensitivity import quantization_sensitivity, sensitivity
from exporter.cli.shell import shell_init
from exporter.cli.stages import calibrate, convert, prune, quantize, train, verify
from exporter.cli.tables import criteria, methods, models, targets
from exporter.cli.tune import tune, worker

STAGES = "The stages of a build, one by one on files"
SHIPPING = "Bundles and devices"
CHOICES = "What there is to choose from"
MACHINE = "This machine"

app = typer.Typer(
    name="exporter",
    help="From images to a verified, quantized .onnx file.\n\n"
    "Exit codes: 0 passed, 1 a gate failed, 2 the request was wrong.",
    epilog="The program is also called export. Shells have a builtin of that name, so type "
    "exporter, or see: exporter shell-init --help",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the program."""
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"{__version__}\n")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    pass


app.command("build")(build)
app.command("tune")(tune)
app.command("worker")(worker)
for name, stage in (
    ("train", train),
    ("sensitivity", sensitivity),
    ("prune", prune),
    ("convert", convert),
    ("calibrate", calibrate),
    ("quantization-sensitivity", quantization_sensitivity),
    ("quantize", quantize),
    ("verify", verify),
):
    app.command(name, rich_help_panel=STAGES)(stage)
for name, shipping in (
    ("pack", pack),
    ("unpack", unpack),
    ("verify-bundle", verify_bundle),
    ("check", check),
    ("merge", merge),
):
    app.command(name, rich_help_panel=SHIPPING)(shipping)
app.command("inspect")(inspect)
app.command("compare")(compare)
app.command("explain")(explain)
for name, table in (
    ("targets", targets),
    ("models", models),
    ("criteria", criteria),
    ("methods", methods),
):
    app.command(name, rich_help_panel=CHOICES)(table)
app.command("doctor", rich_help_panel=MACHINE)(doctor)
app.command("setup-emulation", rich_help_panel=MACHINE)(setup_emulation)
app.command("shell-init", rich_help_panel=MACHINE)(shell_init)
