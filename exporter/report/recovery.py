"""What the report says about the search for a more accurate int8 model (``--recover auto``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.report.not_measured import DESCRIBED, NotMeasured


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveryResult:
    """An int8 model against its own float model, on the same validation images."""

    __pydantic_config__ = DESCRIBED

    method: str
    """Its range method."""
    correct: int
    """Validation images that it classifies correctly."""
    top1: float
    """The same in percent."""
    drop_points: float
    """Top-1 of the float model minus its own, in percentage points."""
    drop_ci: tuple[float, float]
    """95 % confidence interval of drop_points (same images, Tango's score interval)."""
    lost: int
    """Images that only the float model classifies correctly."""
    gained: int
    """Images that only the int8 model classifies correctly."""
    changed: int
    """Images with another predicted class, right or wrong."""
    logit_error: float
    """Root mean square of the change of the logits over that of the float model's logits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveryAttempt:
    """Something that was tried."""

    __pydantic_config__ = DESCRIBED

    rung: str
    """The rung of the ladder: ranges, corrections, rounding, fallback, fine-tuning."""
    what: str
    """What was tried."""
    seconds: float
    """How long it took this time, with what had to be prepared for it."""
    cached: bool
    """Whether its result was already there."""
    result: RecoveryResult | NotMeasured
    """How it came out; not measured where it cannot be done."""
    gain_points: float | None
    """Top-1 above that of the best before it, in percentage points; null for the first."""
    kept: bool
    """Whether it was the best so far; the last one that was kept ships."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerSensitivityReport:
    """What quantizing one layer alone does to the outputs, on calibration images."""

    __pydantic_config__ = DESCRIBED

    layer: str
    """Its name in the file."""
    operator: str
    """Conv, Gemm or MatMul."""
    macs_share: float
    """Its share of the multiply-accumulates, 0 to 1."""
    kl: float
    """Mean Kullback-Leibler divergence of the class probabilities from the float model's, in nats,
    with the layer's weights and input rounded."""
    weights_kl: float
    """The same with its weights alone rounded."""
    flips: int
    """Images with another predicted class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecoveryReport:
    """The ladder that was climbed until the drop on validation images was small enough."""

    __pydantic_config__ = DESCRIBED

    budget_points: float
    """The drop at which it stops, in percentage points (--recover-drop)."""
    within_budget: bool
    """Whether it got there, on validation images."""
    images: int
    """Validation images."""
    image_points: float
    """What one of them is worth, in percentage points: no smaller drop can be seen."""
    detectable_points: float
    """Smallest drop that so many images show as significant (5 %) in four of five cases, in
    percentage points, going by how many flip with the best."""
    float_top1: float
    """Validation images that the float model classifies correctly, in percent."""
    stopped: str
    """Why it ended."""
    attempts: tuple[RecoveryAttempt, ...]
    """What was tried, in order."""
    float_layers: tuple[str, ...]
    """Layers that fell back to float."""
    float_macs_share: float
    """Their share of the multiply-accumulates, 0 to 1."""
    time_ratio: float | None
    """Time of one image over that of the same model without them in float, one thread, median of
    paired, interleaved blocks; null where none fell back."""
    time_ratio_ci: tuple[float, float] | None
    """95 % confidence interval of time_ratio (bootstrap over the pairs)."""
    sensitivity_images: int
    """Calibration images of the sensitivity scan; 0 where none was needed."""
    sensitivity: tuple[LayerSensitivityReport, ...]
    """The layers by falling sensitivity; empty where no scan was needed."""


COLUMNS = ("rung", "tried", "seconds", "top-1", "drop", "lost / gained", "logit error", "kept")
SHORT = ("rung", "tried", "seconds", "top-1", "drop", "kept")
"""The columns that fit beside each other on a terminal."""
SENSITIVITY_COLUMNS = ("layer", "operator", "multiply-adds", "KL", "KL, weights alone", "flips")


def summary(recovery: RecoveryReport) -> str:
    """Return in a sentence or two how it ended, and how far that can be trusted."""
    allowed = int(recovery.budget_points / recovery.image_points + 1e-9)
    meaning = "no image may be lost on balance" if not allowed else f"{allowed:,} may be lost"
    return (
        f"Recovery {recovery.stopped} One of the {recovery.images:,} validation images is worth "
        f"{recovery.image_points:.2f} points: for {recovery.budget_points:g} points {meaning}."
    )


def recovery_rows(recovery: RecoveryReport) -> list[list[str]]:
    """Return a row of cells for each attempt, to go under ``COLUMNS``."""
    return [_row(attempt) for attempt in recovery.attempts]


def sensitivity_rows(recovery: RecoveryReport) -> list[list[str]]:
    """Return a row of cells for each layer, to go under ``SENSITIVITY_COLUMNS``."""
    return [
        [
            layer.layer,
            layer.operator,
            f"{100 * layer.macs_share:.1f} %",
            f"{layer.kl:.2g}",
            f"{layer.weights_kl:.2g}",
            f"{layer.flips:,}",
        ]
        for layer in recovery.sensitivity
    ]


def notes(recovery: RecoveryReport) -> list[str]:
    """Return further sentences: the reasons of what could not be done, and what fell back."""
    found = [
        f"{attempt.rung}, {attempt.what}: {attempt.result.not_measured}"
        for attempt in recovery.attempts
        if isinstance(attempt.result, NotMeasured)
    ]
    last = _last_kept(recovery.attempts)
    if last is not None:
        low, high = last.drop_ci
        found.append(
            f"95 % interval of the drop that was kept last: {low:.2f} to {high:.2f} points. So few "
            f"images would mostly hide a drop below {recovery.detectable_points:.2f}. They chose "
            "what was kept, so they flatter it; the test images do not."
        )
    if recovery.time_ratio is not None and recovery.time_ratio_ci is not None:
        low, high = recovery.time_ratio_ci
        found.append(
            f"Fell back to float: {', '.join(recovery.float_layers)}, "
            f"{100 * recovery.float_macs_share:.1f} % of the multiply-adds; an image takes "
            f"{recovery.time_ratio:.2f} times as long (95 % CI {low:.2f} to {high:.2f})."
        )
    return found


def _row(attempt: RecoveryAttempt) -> list[str]:
    result = attempt.result
    seconds = "cached" if attempt.cached else f"{attempt.seconds:.1f}"
    if isinstance(result, NotMeasured):
        return [attempt.rung, attempt.what, seconds, "not possible", "", "", "", "no"]
    return [
        attempt.rung,
        attempt.what,
        seconds,
        f"{result.top1:.2f} %",
        f"{result.drop_points:.2f}",
        f"{result.lost:,} / {result.gained:,}",
        f"{100 * result.logit_error:.2f} %",
        "yes" if attempt.kept else "no",
    ]


def _last_kept(attempts: Sequence[RecoveryAttempt]) -> RecoveryResult | None:
    kept = [a.result for a in attempts if a.kept and isinstance(a.result, RecoveryResult)]
    return kept[-1] if kept else None
