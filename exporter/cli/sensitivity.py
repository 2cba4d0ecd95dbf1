"""`sensitivity` and `quantization-sensitivity`: what each layer can lose, or suffers from int8."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from exporter.artifacts import Cache
from exporter.cli.answer import Answer, listing, to_json
from exporter.cli.command import command
from exporter.cli.stages import PIXELS_AND_ENDS, AnyFloatModel, Checkpoint
from exporter.config import BuildConfig

OutFile = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="FILE.json",
        help="File that receives the result; the plot goes beside it as FILE.png.",
    ),
]


@command("target", "data", "prune.criterion", "prune.alpha", "prune.scan_shares")
def sensitivity(checkpoint: Checkpoint, config: BuildConfig, cache: Cache, out: OutFile) -> Answer:
    """Prune one layer at a time and see what it costs in accuracy and brings in time."""
    from exporter import stages

    found = stages.sensitivity_files(
        checkpoint, config.data, config.prune, config.target, cache, out
    )
    rows = [
        {
            "layer": "all whole",
            "channels": None,
            "left": None,
            "top1": found.top1,
            "lost": None,
            "macs": found.macs,
            "ms": found.ms,
        }
    ]
    rows += [
        {
            "layer": group.name,
            "channels": group.width,
            "left": point.width,
            "top1": point.top1,
            "lost": found.top1 - point.top1,
            "macs": point.macs,
            "ms": point.ms,
        }
        for group in found.groups
        for point in group.points
    ]
    return Answer(json=to_json(found), draw=listing(rows).draw)


@command("target", "data", *PIXELS_AND_ENDS, "calibrate")
def quantization_sensitivity(model: AnyFloatModel, config: BuildConfig, cache: Cache) -> Answer:
    """Quantize one layer of a float model at a time and see how far its outputs move."""
    from exporter import stages

    found = stages.layer_sensitivity(model, config, cache)
    rows = [
        {
            "layer": layer.layer,
            "operator": layer.operator,
            "kl": layer.both.kl,
            "kl_of_weights": layer.weights.kl,
            "logit_error": layer.both.logit_error,
            f"flips_of_{found.images}": layer.both.flips,
            "macs": layer.macs,
        }
        for layer in found.ranked
    ]
    return Answer(json=to_json(found), draw=listing(rows).draw)
