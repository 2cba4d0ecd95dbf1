"""What stages left in folders, read back as their results."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TypeVar

from exporter.artifacts import RESULT, artifacts_in, load_result, sha256_of
from exporter.checkpoint import Checkpoint
from exporter.data.splits import Splits
from exporter.errors import CacheError, DataError, ModelError
from exporter.pruning.pruned import Pruned
from exporter.training.train import Trained

T = TypeVar("T")


def load_stage(folder: Path, kind: type[T]) -> T:
    """Return the result of the stage that makes a ``kind``.

    Raises:
        ModelError: the folder holds none, or one of its files is not what the stage wrote.
    """
    return _unchanged(folder, _described(folder, kind))


def load_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint of a trained or pruned network; raises what ``load_stage`` raises."""
    found: Pruned | Trained
    try:
        found = _described(folder, Pruned)
    except ModelError:
        found = _described(folder, Trained)
    return _unchanged(folder, found).checkpoint


def _described(folder: Path, kind: type[T]) -> T:
    if not (folder / RESULT).is_file():
        raise ModelError(
            f"{folder} is not a checkpoint: it has no {RESULT}. "
            "Make one with `exporter train --out FOLDER`."
        )
    try:
        return load_result(folder, kind)
    except CacheError as error:
        raise ModelError(
            f"{folder / RESULT} does not describe a {kind.__name__.lower()} network."
        ) from error


def _unchanged(folder: Path, result: T) -> T:
    # A cache knows results by what a file should hold: it would answer for weights that are gone.
    for artifact in artifacts_in(result):
        if not artifact.path.is_file() or sha256_of(artifact.path) != artifact.sha256:
            there = artifact.path.is_file()
            fault = "has changed since" if there else "is missing, but was there when"
            raise ModelError(
                f"{artifact.path} {fault} {folder / RESULT} was written. Make the checkpoint "
                "again, or give other weights to `exporter build` by --weights."
            )
    return result


def as_trained(data: Splits, checkpoint: Checkpoint) -> Splits:
    """Return ``data`` with the checkpoint's normalisation; all else must be as in its training."""
    known, found = checkpoint.contract, data.contract
    same_pixels = {name: getattr(known, name) for name in ("zero_point", "scale", "mean", "std")}
    if known != dataclasses.replace(found, **same_pixels):
        raise DataError(
            f"The checkpoint was trained on {len(known.classes)} classes at "
            f"{known.height}x{known.width} pixels, but --data has {len(found.classes)} at "
            f"{found.height}x{found.width}, or other names. Use the data it was trained on."
        )
    return dataclasses.replace(data, contract=known)
