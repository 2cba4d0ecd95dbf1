"""What the report says about a network that came as an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.report.not_measured import DESCRIBED


@dataclass(frozen=True, kw_only=True, slots=True)
class IntakeReport:
    """A float ONNX file that was brought along; models.dense is this file with raw pixels in."""

    __pydantic_config__ = DESCRIBED

    path: str
    """The file, absolute or relative to the working folder."""
    sha256: str
    """Digest of its content."""
    opset: int | None
    """Version of the operators that it was written in; null for files of this tool."""
    normalization: str | None
    """The pixels that it takes; null for files of this tool."""
    first_operators: tuple[str, ...]
    """Operators at its start that became part of the input: normalisation, order of dimensions."""
    dropped_softmax: bool
    """Whether it ended with a softmax; the models here end with the logits."""
    difference: float | None
    """Largest difference of a logit between it and models.dense on random pixels, relative to the
    largest logit; null for files of this tool, which are taken as they are."""
    validation_top1: float
    """Validation images that it classifies correctly, in percent."""
    warning: str | None
    """Said where another normalisation fits better, or none fits; else null."""
