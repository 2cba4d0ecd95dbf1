"""The stages of a build one by one, on files."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from exporter.artifacts import Cache
from exporter.cli.answer import Answer, facts, to_json
from exporter.cli.command import command
from exporter.cli.verdict import verdict
from exporter.config import PIXELS, BuildConfig, IntakeConfig
from exporter.errors import ConfigError

Checkpoint = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT", help="Folder that `train` or `prune` wrote.")
]
FloatModel = Annotated[
    Path, typer.Argument(metavar="MODEL.onnx", help="Float model that `convert` wrote.")
]
AnyFloatModel = Annotated[
    Path, typer.Argument(metavar="MODEL.onnx", help="Float model, of `convert` or anybody else's.")
]
OutFolder = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="Folder that receives the checkpoint.")
]
OutModel = Annotated[
    Path, typer.Option("--out", metavar="MODEL.onnx", help="File that receives the model.")
]

PIXELS_AND_ENDS = (
    *(f"train.{name}" for name in PIXELS),
    *(f"intake.{entry.name}" for entry in fields(IntakeConfig) if entry.name != "onnx"),
)
"""What is to be said about a model that this tool did not write; its name is no option here."""


@command("data", "train")
def train(config: BuildConfig, cache: Cache, out: OutFolder) -> Answer:
    """Train a network and write its checkpoint."""
    from exporter import stages

    trained = stages.train_files(config.data, config.train, cache, out)
    return facts(
        {
            "checkpoint": out,
            "model": trained.checkpoint.model.name,
            "widths": trained.checkpoint.model.widths,
            "epochs": len(trained.history.epochs),
            "validation_top1": trained.validation_top1,
            "images_per_second": trained.history.images_per_second,
        }
    )


@command("target", "data", "prune")
def prune(checkpoint: Checkpoint, config: BuildConfig, cache: Cache, out: OutFolder) -> Answer:
    """Remove the least important channels of a trained network and fine-tune the rest."""
    from exporter import stages

    pruned = stages.prune_files(checkpoint, config.data, config.prune, config.target, cache, out)
    return facts(
        {
            "checkpoint": out,
            "criterion": pruned.criterion,
            "unit": pruned.unit,
            "asked_share": pruned.asked,
            "budget": pruned.budget and f"{pruned.budget.name} {pruned.budget.limit:,g}",
            "budget_used": pruned.budget and pruned.budget.planned,
            "removed_share": pruned.removed,
            "dead_channels": pruned.dead,
            "widths_before_and_after": pruned.widths,
            "validation_top1": pruned.rounds[-1].validation_after if pruned.rounds else None,
        }
    )


@command()
def convert(checkpoint: Checkpoint, cache: Cache, out: OutModel) -> Answer:
    """Write a checkpoint as a float ONNX model that takes raw pixels."""
    from exporter import stages

    model = stages.convert_files(checkpoint, cache, out)
    return facts(
        {
            "model": out,
            "parameters": model.parameters,
            "macs": model.macs,
            "largest_difference_from_torch": model.parity,
        }
    )


@command("data", "calibrate")
def calibrate(
    model: FloatModel,
    config: BuildConfig,
    cache: Cache,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="RANGES",
            help="File that receives the ranges; a folder with one per method for --method auto.",
        ),
    ],
) -> Answer:
    """Measure the activation ranges of a float model on calibration images."""
    from exporter import stages

    paths = stages.calibrate_files(model, config.data, config.calibrate, cache, out)
    return facts({"ranges": paths})


@command("target", "data", *PIXELS_AND_ENDS, "calibrate", "correct", "quantize")
def quantize(
    model: AnyFloatModel,
    config: BuildConfig,
    cache: Cache,
    out: OutModel,
    ranges: Annotated[
        Path | None,
        typer.Option(
            "--ranges",
            metavar="RANGES.json",
            help="Ranges that `calibrate` wrote. \\[default: none, they are measured on --data]",
        ),
    ] = None,
) -> Answer:
    """Make a static int8 model of a float one, of this tool's or any other network."""
    from exporter import stages

    if config.intake.task == "any":
        from exporter.cli.agreement import agreement_answer

        if ranges is not None:
            raise ConfigError("--task any measures ranges itself. Leave out --ranges.")
        return agreement_answer(stages.quantize_any_files(model, config, cache, out), out)
    int8, recovery, floats = stages.quantize_files(model, ranges, config, cache, out)
    known = {
        "model": out,
        "target": int8.target,
        "method": int8.method,
        "executed_as_integers": int8.coverage.integer,
        "executed_in_float": int8.coverage.floating,
        "why_float": int8.coverage.reasons,
        "seven_bit_layers": int8.seven_bit_layers,
    }
    if floats is not None:
        known["float_layers"] = int8.float_layers
    searched = {"float_layers_search": floats, "recovery": recovery}
    found = {name: report for name, report in searched.items() if report is not None}
    if not found:
        return facts(known)

    def draw(console: Console) -> None:
        from exporter.report.terminal import float_layers_shown, recovery_shown

        facts(known).draw(console)
        if floats is not None:
            console.print(float_layers_shown(floats))
        if recovery is not None:
            console.print(recovery_shown(recovery))

    return Answer(json=to_json({**known, **found}), draw=draw)


@command("target", "data", "verify")
def verify(
    config: BuildConfig,
    cache: Cache,
    dense: Annotated[
        Path,
        typer.Option("--dense", metavar="MODEL.onnx", help="Float model to compare with."),
    ],
    int8: Annotated[
        Path | None,
        typer.Option(
            "--int8", metavar="MODEL.onnx", help="Quantized model to judge. \\[default: none]"
        ),
    ] = None,
    small: Annotated[
        Path | None,
        typer.Option(
            "--small",
            metavar="MODEL.onnx",
            help="Pruned float model; judged where there is no --int8. \\[default: none]",
        ),
    ] = None,
) -> Answer:
    """Compare accuracy and latency of finished models on the test images, on this machine."""
    from exporter import stages

    return verdict(
        stages.verify_files(dense, small, int8, config.data, config.verify, config.target, cache)
    )
