"""Logits of a whole split, computed by ONNX Runtime from the shipped bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporter.artifacts import Artifact
from exporter.contract import INPUT_NAME, OUTPUT_NAME
from exporter.data.splits import Split
from exporter.errors import DataError, GraphError
from exporter.progress import track
from exporter.verification.session import NO_SETTINGS, image_shape, open_session, takes_one_image

VERSION = 1
BATCH = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """What a model says about every image of a split."""

    logits: Artifact
    """A .npy file, ``float32 [N, classes]``, every value finite."""
    count: int
    """N."""


def predict(out: Path, model: Artifact, data: Split) -> Predictions:
    """Return the logits of every image, as a device would compute them.

    Raises:
        DataError: the split is empty or its images have another size.
        GraphError: the file does not load, breaks the contract, or gives a logit that is not
            finite.
    """
    return _predict(out, model, data, NO_SETTINGS)


def predict_in_float(out: Path, model: Artifact, data: Split) -> Predictions:
    """Return the logits of a QDQ model whose operators are computed in float between Q and DQ.

    The same numbers without integer kernels: a control for their saturation and bugs. Raises what
    ``predict`` raises.
    """
    return _predict(out, model, data, {"session.disable_quant_qdq": "1"})


def _predict(out: Path, model: Artifact, data: Split, settings: Mapping[str, str]) -> Predictions:
    session = open_session(model, settings=settings)
    images = np.load(data.images.path, mmap_mode="r")
    if not len(images):
        raise DataError(f"The {data.name} split is empty, so there is nothing to measure on.")
    if images.shape[1:] != image_shape(session):
        raise DataError(
            f"The images of the {data.name} split are {_size(images.shape[1:])}, but "
            f"{model.path} wants {_size(image_shape(session))}."
        )
    size = 1 if takes_one_image(session) else BATCH
    file = out / "logits.npy"
    logits = []
    with track(f"Predicting {len(images)} {data.name} images", total=len(images)) as advance:
        for start in range(0, len(images), size):
            batch = np.ascontiguousarray(images[start : start + size])
            (values,) = session.run([OUTPUT_NAME], {INPUT_NAME: batch})
            if not np.isfinite(values).all():
                raise GraphError(
                    f"{model.path} gives logits that are not finite, first in the batch of "
                    f"image {start} of the {data.name} split. The model has diverged or its "
                    "ranges are broken."
                )
            logits.append(values)
            advance(len(batch), "")
    np.save(file, np.concatenate(logits))
    return Predictions(logits=Artifact.of(file), count=len(images))


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
