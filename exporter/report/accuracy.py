"""How far the drop can be trusted and which step caused it, in words and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.report.evidence import AccuracyEvidence, ClassAccuracy, Confidence, StepLoss
from exporter.report.markdown_table import escaped, table
from exporter.report.model import BuildReport

SIGNIFICANT = 0.05
"""p-values below it are called more than chance."""
CLASSES_SHOWN = 20
"""Rows of the table of classes; those that lost most come first."""


def drop_in_words(report: BuildReport) -> str:
    """Return whether the drop is more than chance, and which drop the images could have shown."""
    found, flips = _accuracy(report), report.flips
    low, high = (points(end) for end in report.drop_ci)
    if not flips.right_to_wrong + flips.wrong_to_right:
        what = "No image was lost or gained"
    elif found.mcnemar_p < SIGNIFICANT:
        what = f"That {'loss' if report.drop_points > 0 else 'gain'} is more than chance"
    elif not report.drop_points:
        what = "As many images were gained as lost"
    else:
        what = f"That {'loss' if report.drop_points > 0 else 'gain'} may be chance"
    return (
        f"{what} (95 % CI of the loss {low} to {high} points, McNemar p = "
        f"{p_value(found.mcnemar_p)}). {report.models.dense.total:,} images can show a loss of "
        f"{found.detectable_drop_points:.2f} points or more."
    )


def steps_in_words(report: BuildReport) -> str:
    """Return what each step of the build cost."""
    losses = ", ".join(
        f"{loss.step} {points(loss.drop_points)}" for loss in _accuracy(report).steps
    )
    return f"Points lost by step: {losses}."


def accuracy_lines(found: AccuracyEvidence) -> list[str]:
    """Return what the section on accuracy adds, as Markdown."""
    lines = [
        (
            f"- Exact McNemar test: p = {p_value(found.mcnemar_p)}. So many images, so many of "
            f"them flipping, show a drop of {found.detectable_drop_points:.2f} points or more "
            "(power 80 %, significance 5 %)."
        ),
        (
            f"- Confidence: {_confidence(found.dense_confidence)} before, "
            f"{_confidence(found.shipped_confidence)} after."
        ),
    ]
    if found.top5 is not None:
        low, high = found.top5.drop_ci
        lines.append(
            f"- Top-5: {found.top5.before:.2f} % before, {found.top5.after:.2f} % after, "
            f"{points(found.top5.drop_points)} points lost (95 % CI {points(low)} to "
            f"{points(high)})."
        )
    return [*lines, "", *_steps(found.steps), "", *_classes(found.classes)]


def points(value: float) -> str:
    """Return percentage points without a negative zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def p_value(value: float) -> str:
    """Return a p-value with two digits, never as zero."""
    return "below 0.0001" if value < 1e-4 else f"{value:.2g}"


def _accuracy(report: BuildReport) -> AccuracyEvidence:
    assert report.evidence is not None
    return report.evidence.accuracy


def _confidence(found: Confidence) -> str:
    return (
        f"mean {found.mean:.2f} %, expected calibration error {found.calibration_error:.2f} points"
    )


def _steps(steps: Sequence[StepLoss]) -> list[str]:
    rows = (
        [
            f"{loss.step}: {loss.before} to {loss.after}",
            f"{loss.top1_before:.2f} %",
            f"{loss.top1_after:.2f} %",
            f"{points(loss.drop_points)} ({points(loss.drop_ci[0])} to {points(loss.drop_ci[1])})",
            p_value(loss.mcnemar_p),
            f"{100 * loss.changed_share:.2f} %",
        ]
        for loss in steps
    )
    header = ["step", "top-1 before", "after", "points lost (95 % CI)", "McNemar p", "changed"]
    return table(header, rows)


def _classes(classes: Sequence[ClassAccuracy]) -> list[str]:
    worst = sorted(classes, key=lambda entry: -entry.drop_points)[:CLASSES_SHOWN]
    rows = (
        [
            escaped(entry.name),
            f"{entry.count:,}",
            f"{entry.before:.2f} %",
            f"{entry.after:.2f} %",
            points(entry.drop_points),
            f"{entry.lost} / {entry.gained}",
            p_value(entry.mcnemar_p),
        ]
        for entry in worst
    )
    header = [
        "class",
        "images",
        "before",
        "after",
        "points lost",
        "lost / gained",
        "p (Bonferroni)",
    ]
    left_out = len(classes) - len(worst)
    more = [f"{left_out} classes that lost less are in report.json."] if left_out else []
    return [*table(header, rows), *(["", *more] if more else [])]
