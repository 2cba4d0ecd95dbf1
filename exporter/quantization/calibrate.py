"""Stage: measure the activations of a float model on calibration images, and choose ranges.

The ranges are ``calibration.Ranges``, one JSON file per method. They belong to one model file: it
is named in them by its sha256, and the quantizer refuses any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from calibration import (
    METHODS,
    ArrayStream,
    CalibrationError,
    collect_ranges,
    find_method,
    passes_needed,
)
from exporter.artifacts import Artifact
from exporter.config import CalibrationConfig
from exporter.contract import INPUT_NAME
from exporter.data.splits import Split
from exporter.errors import ConfigError, DataError, GraphError
from exporter.graph.model import OnnxModel
from exporter.progress import track
from exporter.quantization.per_tensor import PER_TENSOR, choose_per_tensor

VERSION = 1

AUTO = "auto"
"""Not a method: every method of the table, from the same two passes; somebody else chooses."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibrated:
    """Ranges of one model on one set of images."""

    by_method: Mapping[str, Artifact]
    """One file of ``calibration.Ranges`` per method."""
    images: int


def calibrate(out: Path, config: CalibrationConfig, model: OnnxModel, data: Split) -> Calibrated:
    """Write the activation ranges of ``model`` on ``data``, ``<method>.json`` for each method.

    Raises:
        ConfigError: the method is unknown.
        DataError: there are no images.
        GraphError: the model cannot be run on the images, or an activation is NaN or infinite.
    """
    methods = methods_of(config)
    pixels, _ = data.arrays()
    try:
        stream = ArrayStream(
            samples=pixels, input_name=INPUT_NAME, batch_size=config.calibration_batch
        )
    except CalibrationError as error:
        raise DataError(f"Split {data.name!r}: {error}") from error
    total = len(pixels) * passes_needed(methods)
    try:
        with track("Calibrating", total=total) as advance:
            collected = collect_ranges(
                model.file.path, stream, methods, on_batch=lambda images: advance(images, "")
            )
    except CalibrationError as error:
        raise GraphError(f"{model.file.path}: {error}") from error
    if config.method == PER_TENSOR:
        collected = {PER_TENSOR: choose_per_tensor(model.file.path, collected, pixels)}
    by_method = {}
    for method, ranges in collected.items():
        path = out / f"{method}.json"
        path.write_text(ranges.to_json())
        by_method[method] = Artifact.of(path)
    return Calibrated(by_method=by_method, images=len(pixels))


def methods_of(config: CalibrationConfig) -> tuple[str, ...]:
    """Return the methods that ``config`` asks for; raises ConfigError if it is an unknown one."""
    if config.method in (AUTO, PER_TENSOR):
        return tuple(METHODS)
    try:
        return (find_method(config.method).name,)
    except CalibrationError as error:
        raise ConfigError(f"--method: {error} Or {AUTO}, {PER_TENSOR}.") from error
