"""Stage: a finished model in the form that its target takes.

What was quantized (or stayed float) is not computed anew, only packed in another way, so the same
pixels must give the same logits; they are compared on a few probe images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporter.artifacts import Artifact, Cache
from exporter.contract import INPUT_NAME, OUTPUT_NAME, InputContract
from exporter.errors import GraphError
from exporter.graph.canonical import save_model
from exporter.graph.checks import check_shippable
from exporter.graph.compact import make_compact
from exporter.graph.fixed_batch import fix_batch
from exporter.graph.limits import read_model
from exporter.graph.model import OnnxModel
from exporter.graph.ort_format import write_ort
from exporter.graph.parity import probe_pixels
from exporter.outputs import largest_difference
from exporter.quantization.quantize import QuantizedModel
from exporter.targets import OPERATORS, FileFormat, Target
from exporter.verification.session import open_session

VERSION = 1

PROBE_IMAGES = 2
TOLERANCE = 1e-4
"""Accepted difference of a logit, as a share of the largest. Integer kernels agree to the bit; a
final matrix product in float may add up in another order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """A model as the device gets it."""

    file: Artifact
    """What the device loads, and what is verified."""
    source: Artifact
    """The .onnx file that ``file`` was made of; the same one where that is what ships."""
    operators: Artifact | None = None
    """Which operators a minimal build of ONNX Runtime must have; None where any build will do."""
    difference: float = 0.0
    """Largest difference of a logit on probe images from the model that was packed up, as a share
    of the largest logit."""

    @property
    def files(self) -> Mapping[str, Artifact]:
        """What goes into the bundle, by name."""
        found = {"model.onnx": self.source, f"model{self.file.path.suffix}": self.file}
        return found if self.operators is None else found | {OPERATORS: self.operators}


def shipped_for(cache: Cache, target: Target, model: OnnxModel | QuantizedModel) -> Shipped:
    """Return ``model`` in the form that ``target`` takes: its very file where that is the form.

    Raises:
        GraphError: ONNX Runtime cannot write that form, or it gives other logits.
    """
    if target.file_format == "onnx" and not (target.fixed_batch or target.compact):
        return Shipped(file=model.file, source=model.file)
    return cache.run(
        ship, model.file, model.contract, target.fixed_batch, target.compact, target.file_format
    )


def ship(
    out: Path,
    model: Artifact,
    contract: InputContract,
    fixed_batch: bool,
    compact: bool,
    file_format: FileFormat,
) -> Shipped:
    """Write ``model.onnx``, and what is made of it where the format is another one.

    The same inputs give the same bytes. Raises GraphError, see ``shipped_for``.
    """
    graph = read_model(model.checked())
    if fixed_batch:
        fix_batch(graph)
    if compact:
        make_compact(graph)
    source = out / "model.onnx"
    save_model(graph, source)
    check_shippable(read_model(source), contract)
    file, operators = source, None
    if file_format == "ort":
        file, operators = out / "model.ort", out / OPERATORS
        operators.write_text(write_ort(source, file))
    shipped = Artifact.of(file)
    return Shipped(
        file=shipped,
        source=Artifact.of(source),
        operators=Artifact.of(operators) if operators else None,
        difference=_difference(model, shipped, contract),
    )


def _difference(model: Artifact, shipped: Artifact, contract: InputContract) -> float:
    pixels = probe_pixels(contract, PROBE_IMAGES)
    before, after = (_logits(file, pixels) for file in (model, shipped))
    difference = largest_difference(after, before)
    if not difference <= TOLERANCE:
        raise GraphError(
            f"{shipped.path} gives logits that differ from those of {model.path} by "
            f"{difference:.1e} of the largest; {TOLERANCE:.0e} is allowed."
        )
    return difference


def _logits(model: Artifact, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    session = open_session(model, threads=1)
    rows = [session.run([OUTPUT_NAME], {INPUT_NAME: image[None]})[0] for image in pixels]
    return np.concatenate(rows)
