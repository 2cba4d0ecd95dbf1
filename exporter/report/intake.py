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


def lines(intake: IntakeReport) -> list[str]:
    """Return the facts as items of a Markdown list."""
    pixels = "what its metadata says" if intake.normalization is None else intake.normalization
    found = [
        f"- File: {intake.path}, sha256 {intake.sha256}.",
        f"- It takes these pixels: {pixels}; {intake.validation_top1:.2f} % right on validation.",
    ]
    if intake.opset is not None:
        found.append(f"- Written in opset {intake.opset}.")
    if intake.first_operators:
        listed = ", ".join(intake.first_operators)
        found.append(f"- Operators at its start that became part of the input: {listed}.")
    if intake.dropped_softmax:
        found.append("- Its softmax at the end is left out: the outputs are logits.")
    if intake.difference is not None:
        found.append(f"- Largest relative difference from it: {intake.difference:.1e}.")
    return found
