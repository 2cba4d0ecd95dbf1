"""`build`: the whole job."""

from __future__ import annotations

from exporter.artifacts import Cache
from exporter.cli.answer import Answer
from exporter.cli.command import command
from exporter.cli.verdict import verdict
from exporter.config import BuildConfig


@command(
    "target",
    "out",
    "data",
    "train",
    "prune",
    "intake",
    "calibrate",
    "correct",
    "quantize",
    "verify",
)
def build(config: BuildConfig, cache: Cache) -> Answer:
    """Train, prune, quantize and verify a network; leave a bundle that can be shipped."""
    from exporter import pipeline

    return verdict(pipeline.build(config, cache))
