"""Golden outputs: a few images with the logits the shipped file gives here, to be compared there.

Each class takes turns, and within a class the closest calls come first: an image whose two best
logits lie close together is the first to change sides when a device computes something else. Calls
closer than twice the tolerance are left out, since there the winner may change although every logit
is within bounds.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.artifacts import Artifact
from exporter.contract import INPUT_NAME, OUTPUT_NAME
from exporter.data.splits import Split
from exporter.errors import DataError, GraphError
from exporter.progress import track
from exporter.verification.session import open_session

COUNT = 32
CANDIDATES = 1000
"""Validation images looked at: enough for close calls, bounded in time for large networks."""
TOLERANCE = 0.005
"""Accepted difference of a logit, as a share of the largest one seen. Integer kernels that do not
saturate agree to the last bit (measured: AVX512-VNNI against emulated AVX2), float ones within
1e-5; 8-bit weights that saturate on AVX2 put most images off by a tenth and more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Golden:
    """Images ``uint8 [N, H, W, 3]``, labels ``int64 [N]``, logits ``float32 [N, classes]``."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    tolerance: float
    """Largest accepted absolute difference of a logit."""


def choose_golden(model: Artifact, validation: Split) -> Golden:
    """Return golden images of the validation split, and what ``model`` says about them.

    Every image runs alone and on one thread, as on the device.

    Raises:
        CacheError: the model's file has changed since it was made.
        DataError: the split is empty.
        GraphError: the model does not run on such images, or its outputs are not finite numbers.
    """
    images, labels = validation.arrays()
    if not len(labels):
        raise DataError(f"The {validation.name} split is empty, but golden outputs need images.")
    seen = np.sort(_by_turns(labels)[:CANDIDATES])
    logits = _logits(model, images, seen)
    tolerance = TOLERANCE * float(np.abs(logits).max())
    ordered = np.sort(logits, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    clear = margins >= 2 * tolerance
    if not clear.any():  # a model that hardly tells anything apart
        clear[:] = True
    closest = np.argsort(np.where(clear, margins, np.inf), kind="stable")[: clear.sum()]
    chosen = closest[_by_turns(labels[seen][closest])[:COUNT]]
    return Golden(
        images=images[seen[chosen]],
        labels=labels[seen[chosen]],
        logits=logits[chosen],
        tolerance=tolerance,
    )


def _by_turns(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return positions: the first one of each class, then the second ones, and so on."""
    grouped = np.argsort(labels, kind="stable")
    turns = np.empty_like(grouped)
    ordered = labels[grouped]
    turns[grouped] = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return np.argsort(turns, kind="stable")


def _logits(
    model: Artifact, images: NDArray[np.uint8], positions: NDArray[np.int64]
) -> NDArray[np.float32]:
    session = open_session(model, threads=1)
    rows: list[Any] = []
    with track("Golden outputs", total=len(positions)) as advance:
        for position in positions:
            image = np.ascontiguousarray(images[position : position + 1])
            try:
                rows.append(session.run([OUTPUT_NAME], {INPUT_NAME: image})[0][0])
            except Exception as error:  # the runtime's exceptions have no base of their own
                reason = " ".join(str(error).split())
                raise GraphError(f"{model.path} does not run: {reason}") from error
            advance(1, "")
    logits = np.asarray(rows, np.float32)
    if not np.isfinite(logits).all():
        raise GraphError(f"{model.path} gives outputs that are not finite numbers.")
    return logits


def golden_file(golden: Golden) -> bytes:
    """Return a file for ``numpy.load``: the same arrays give the same bytes, at any time.

    ``numpy.savez`` stamps the time of day into the archive. Stored, not deflated, since zlib's
    output differs between its versions.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for name in ("images", "labels", "logits"):
            content = io.BytesIO()
            np.lib.format.write_array(content, getattr(golden, name), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # the same on every system
            file.writestr(entry, content.getvalue())
    return archive.getvalue()
