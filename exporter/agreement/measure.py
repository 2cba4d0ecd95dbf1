"""Stage: how far the outputs of an int8 file are those of the float file it was made from.

For an output ``x`` of the float file and ``y`` of the int8 file, over all images and elements, the
signal-to-quantization-noise ratio is ``10 log10(sum x^2 / sum (x - y)^2)`` in dB: 20 dB is an error
of a tenth of the signal, 40 dB of a hundredth. The cosine similarity is taken per image, over all
that the output says of it. Maps of several planes, ``[N, C, H, W]``, as segmentation networks give
them, name a class for each pixel; the share of pixels where both name the same one is told, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from exporter.artifacts import Artifact
from exporter.contract import INPUT_NAME
from exporter.data.splits import Split
from exporter.errors import DataError, GraphError
from exporter.progress import track

VERSION = 1

BATCH = 16
MAP_RANK = 4
_ERRORS_ONLY = 3
Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputAgreement:
    """One output, int8 against float."""

    name: str
    shape: tuple[int, ...]
    """Of what it says of one image."""
    sqnr_db: float
    """Signal-to-quantization-noise ratio in dB; infinite where nothing differs."""
    cosine: float
    """Mean cosine similarity of the images."""
    worst_cosine: float
    """That of the worst image."""
    same_argmax: float | None
    """Share of pixels with the same largest plane, 0 to 1; None where it is no map of planes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """All outputs of two files on the same images."""

    images: int
    outputs: tuple[OutputAgreement, ...]
    """In the order of the files."""

    @property
    def worst_sqnr_db(self) -> float:
        """The smallest ratio of an output."""
        return min(output.sqnr_db for output in self.outputs)


def measure_agreement(out: Path, floating: Artifact, int8: Artifact, data: Split) -> Agreement:
    """Return how far the outputs of two files agree; memory does not grow with the images.

    Args:
        out: folder of the stage; nothing is written into it.
        floating: the file that is right by definition, raw pixels in.
        int8: the file to judge, with the same outputs.
        data: the images; labels are not looked at.

    Raises:
        DataError: there are no images.
        GraphError: a file cannot be run on them, or gives something that is not finite.
    """
    if not data.count:
        raise DataError(f"The {data.name} split is empty, so there is nothing to measure on.")
    sessions = [_open(file) for file in (floating, int8)]
    names = [info.name for info in sessions[0].get_outputs()]
    found = [_Sums(name=name) for name in names]
    images = np.load(data.images.path, mmap_mode="r")
    title = f"Comparing outputs on {len(images)} {data.name} images"
    with track(title, total=len(images)) as advance:
        for batch in _batches(images):
            before, after = (_run(session, names, batch) for session in sessions)
            for sums, x, y in zip(found, before, after, strict=True):
                sums.add(x, y)
            advance(len(batch), "")
    return Agreement(images=len(images), outputs=tuple(sums.result() for sums in found))


@dataclass(kw_only=True, slots=True)
class _Sums:
    """What is known of one output after some images."""

    name: str
    shape: tuple[int, ...] = ()
    signal: float = 0.0
    noise: float = 0.0
    cosines: list[float] = field(default_factory=list)
    same: int = 0
    pixels: int = 0

    def add(self, before: Array, after: Array) -> None:
        self.shape = before.shape[1:]
        if before.ndim == MAP_RANK and before.shape[1] > 1:
            agree = before.argmax(axis=1) == after.argmax(axis=1)
            self.same += int(agree.sum())
            self.pixels += agree.size
        x, y = (values.reshape(len(values), -1).astype(np.float64) for values in (before, after))
        self.signal += float(np.square(x).sum())
        self.noise += float(np.square(x - y).sum())
        self.cosines += [_cosine(*pair) for pair in zip(x, y, strict=True)]

    def result(self) -> OutputAgreement:
        return OutputAgreement(
            name=self.name,
            shape=self.shape,
            sqnr_db=decibels(self.signal, self.noise),
            cosine=float(np.mean(self.cosines)),
            worst_cosine=min(self.cosines),
            same_argmax=self.same / self.pixels if self.pixels else None,
        )


def decibels(signal: float, noise: float) -> float:
    """Return the ratio of two powers in dB; infinite without noise, minus that without signal."""
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _cosine(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the cosine similarity; two vectors of zeros are the same, one has no direction."""
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    if not lengths:
        return float(not x.any() and not y.any())
    return float(x @ y) / lengths


def _batches(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(images), BATCH):
        yield np.ascontiguousarray(images[start : start + BATCH])


def _open(file: Artifact) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    try:
        return ort.InferenceSession(
            str(file.checked()), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # the runtime's exceptions have no base of their own
        detail = " ".join(str(error).split())
        raise GraphError(f"{file.path} cannot be loaded by ONNX Runtime: {detail}") from error


def _run(session: ort.InferenceSession, names: list[str], batch: NDArray[np.uint8]) -> list[Array]:
    try:
        outputs: list[Array] = session.run(names, {INPUT_NAME: batch})
    except Exception as error:  # the runtime's exceptions have no base of their own
        detail = " ".join(str(error).split())
        raise GraphError(f"The file cannot be run on the images: {detail}") from error
    for name, values in zip(names, outputs, strict=True):
        if not np.isfinite(values).all():
            raise GraphError(f"The output {name!r} has values that are not finite.")
    return outputs
