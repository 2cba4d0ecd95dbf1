"""What the shipped file computes on each instruction set, measured or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.report.not_measured import DESCRIBED, NotMeasured


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructionSetResult:
    """Test images classified by one set of kernels, against this machine's own."""

    __pydantic_config__ = DESCRIBED

    cpu: str
    """Name of the processor; the emulated model where there is an emulator."""
    emulator: str | None
    """Name and version; null where the file ran on this machine itself."""
    onnxruntime: str
    """Version of ONNX Runtime there."""
    images: int
    """Test images that were run: all, or a sample with each class by its share."""
    top1: float
    """Those classified correctly, in percent."""
    native_top1: float
    """The same by this machine's own kernels, on the same images."""
    drop_points: float
    """native_top1 minus top1, in percentage points."""
    changed_share: float
    """Share of predictions that differ from this machine's own, 0 to 1."""
    max_logit_difference: float
    """Largest absolute difference of a logit from this machine's own."""
    p50_ms: float | NotMeasured
    """Median time of one image, in milliseconds; emulated ones are never timed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructionSetReport:
    """One instruction set that the target promises, that was asked for, or that this CPU has."""

    __pydantic_config__ = DESCRIBED

    name: str
    """Its name, as targets have it."""
    promised: bool
    """Whether the target promises right answers on it; if so and measured, it is a gate."""
    result: InstructionSetResult | NotMeasured
    """What was measured."""


COLUMNS = ("instruction set", "images", "top-1", "here", "changed", "logits differ by")
"""Headings of ``measured_rows``; "here" is top-1 of this machine's own kernels."""


def measured_rows(entries: Sequence[InstructionSetReport]) -> list[tuple[str, ...]]:
    """Return one row for each instruction set that was measured."""
    return [
        (
            entry.name,
            f"{result.images:,}",
            f"{result.top1:.2f} %",
            f"{result.native_top1:.2f} %",
            f"{100 * result.changed_share:.2f} %",
            f"at most {result.max_logit_difference:.2g}" if result.emulator else "",
        )
        for entry in entries
        if not isinstance(result := entry.result, NotMeasured)
    ]


def emulators(entries: Sequence[InstructionSetReport]) -> str:
    """Return who emulated which CPU, and that times are unknown; "" where nobody did."""
    found = [
        f"{entry.name} on {result.cpu} ({result.emulator}, onnxruntime {result.onnxruntime})"
        for entry in entries
        if not isinstance(result := entry.result, NotMeasured) and result.emulator
    ]
    return f"Emulated, numerics only, time not measured: {', '.join(found)}." if found else ""


def unmeasured(entries: Sequence[InstructionSetReport]) -> list[str]:
    """Return what was not measured, each with the reason."""
    return [
        f"{entry.name} is not measured: {entry.result.not_measured}."
        for entry in entries
        if isinstance(entry.result, NotMeasured)
    ]


def lost_on(entries: Sequence[InstructionSetReport]) -> list[str]:
    """Return what the file loses on emulated instruction sets beyond its loss on this machine."""
    return [
        f"On {entry.name} the file loses {result.drop_points:.2f} points more than on this "
        "machine's kernels. Choose a target that is made for it: exporter targets"
        for entry in entries
        if not isinstance(result := entry.result, NotMeasured) and result.drop_points > 0
    ]
