"""The figures of the page: numbers turned into lengths, and the words beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.report.evidence import ClassAccuracy
from exporter.report.model import BuildReport
from exporter.report.verdict import NAMES, columns, milliseconds, size, times

MOST_CLASSES = 20
"""Classes that are drawn; of more, those that changed most."""
LEAST_SPAN = 0.5
"""Percentage points that an axis of accuracy covers at least, so that nothing looks like much."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """One figure in large print."""

    title: str
    figure: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A row of a bar chart; lengths are percent of the chart's width."""

    label: str
    start: float
    length: float
    text: str
    kind: str
    """Class of the colour."""
    low: float | None = None
    """Where the whisker begins; None for none."""
    high: float = 0.0
    """Where it ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Bars below a title."""

    title: str
    note: str
    bars: tuple[Bar, ...]
    zero: float | None = None
    """Where the line of no change stands, in percent of the width; None where bars begin at 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """A model in the plane of time and accuracy; places are percent of the plane."""

    label: str
    x: float
    y: float
    radius: float
    """In pixels; the area grows with the bytes."""
    text: str
    kind: str


def cards(report: BuildReport) -> tuple[Card, ...]:
    """Return what changed from dense float to what ships, in three figures."""
    low, high = report.drop_ci
    slow, fast = report.speedup_ci
    model, dense = report.shipped_model, report.models.dense
    lost = "points lost" if report.drop_points >= 0 else "points gained"
    return (
        Card(
            title="Accuracy",
            figure=f"{abs(report.drop_points):.2f} {lost}",
            detail=f"{model.top1:.2f} % of {model.total:,} test images right, dense float "
            f"{dense.top1:.2f} %; 95 % CI of the loss {low:.2f} to {high:.2f}",
        ),
        Card(
            title="Speed",
            figure=f"{times(report.speedup)}x",
            detail=f"{milliseconds(model.p50_ms)} an image, dense float "
            f"{milliseconds(dense.p50_ms)}; 95 % CI {times(slow)} to {times(fast)}",
        ),
        Card(
            title="Size",
            figure=f"{100 * report.size_ratio:.1f} %",
            detail=f"{size(model.bytes)} of {size(dense.bytes)}; as a download (zstd) "
            f"{size(model.zstd_bytes)}",
        ),
    )


def plane(report: BuildReport) -> tuple[tuple[Dot, ...], tuple[float, float], float]:
    """Return the models by time and accuracy, the ends of the accuracy axis, and the longest time.

    The time axis begins at 0; that of accuracy does not, which its labels say.
    """
    shown = columns(report)
    top1 = [model.top1 for _, model in shown]
    middle, span = (max(top1) + min(top1)) / 2, max(max(top1) - min(top1), LEAST_SPAN)
    low, high = max(0.0, middle - span), min(100.0, middle + span)
    slowest = 1.15 * max(model.p50_ms for _, model in shown)
    largest = max(model.bytes for _, model in shown)
    dots = tuple(
        Dot(
            label=name,
            x=100 * model.p50_ms / slowest,
            y=100 * (high - model.top1) / (high - low),
            radius=4 + 14 * math.sqrt(model.bytes / largest),
            text=f"{name}: {model.top1:.2f} %, {milliseconds(model.p50_ms)}, {size(model.bytes)}",
            kind=_kind(name),
        )
        for name, model in shown
    )
    return dots, (low, high), slowest


def charts(report: BuildReport) -> tuple[Chart, ...]:
    """Return the bar charts that there are figures for."""
    found = (_time(report), _steps(report), _classes(report), _widths(report))
    return tuple(chart for chart in found if chart is not None)


def _time(report: BuildReport) -> Chart:
    shown = columns(report)
    longest = 1.02 * max(model.p90_ms for _, model in shown)
    return Chart(
        title="Time of one image",
        note=f"Bar: median (p50). Whisker: up to what 90 % of the runs stay below (p90). Threads: "
        f"{report.threads}; {report.machine.cpu}.",
        bars=tuple(
            Bar(
                label=name,
                start=0.0,
                length=100 * model.p50_ms / longest,
                low=100 * model.p50_ms / longest,
                high=100 * model.p90_ms / longest,
                text=milliseconds(model.p50_ms),
                kind=_kind(name),
            )
            for name, model in shown
        ),
    )


def _steps(report: BuildReport) -> Chart | None:
    steps = report.evidence.accuracy.steps if report.evidence else ()
    if not steps:
        return None
    ends = [end for step in steps for end in (step.drop_points, *step.drop_ci)]
    return _drops(
        "Points lost by step",
        "On the same test images. Whisker: 95 % confidence interval; where it crosses the line, "
        "the change may be chance.",
        [(step.step, step.drop_points, step.drop_ci, f"{step.drop_points:+.2f}") for step in steps],
        ends,
    )


def _classes(report: BuildReport) -> Chart | None:
    classes = report.evidence.accuracy.classes if report.evidence else ()
    if not classes:
        return None
    chosen = sorted(classes, key=lambda found: -abs(found.drop_points))[:MOST_CLASSES]
    chosen.sort(key=lambda found: -found.drop_points)
    note = "From dense float to what ships; with few images a class changes by chance."
    if len(classes) > MOST_CLASSES:
        note = f"The {MOST_CLASSES} of {len(classes)} classes that changed most. {note}"
    rows = [
        (found.name, found.drop_points, None, f"{found.drop_points:+.2f} ({_from_to(found)})")
        for found in chosen
    ]
    ends = [found.drop_points for found in chosen]
    return _drops("Points lost by class", note, rows, ends)


def _from_to(found: ClassAccuracy) -> str:
    return f"{found.before:.1f} to {found.after:.1f} %, {found.count:,} images"


def _widths(report: BuildReport) -> Chart | None:
    layers = report.pruning.layers if report.pruning else ()
    if not layers:
        return None
    widest = max(layer.before for layer in layers)
    return Chart(
        title="Channels that are left",
        note="Bar: after pruning. Line: what was removed.",
        bars=tuple(
            Bar(
                label=layer.layer,
                start=0.0,
                length=100 * layer.after / widest,
                low=100 * layer.after / widest,
                high=100 * layer.before / widest,
                text=f"{layer.after} of {layer.before}",
                kind="small",
            )
            for layer in layers
        ),
    )


def _drops(
    title: str,
    note: str,
    rows: Sequence[tuple[str, float, tuple[float, float] | None, str]],
    ends: Sequence[float],
) -> Chart:
    """Return bars to both sides of a line: losses to the right, gains to the left."""
    low, high = min(0.0, *ends, -LEAST_SPAN), max(0.0, *ends, LEAST_SPAN)

    def at(points: float) -> float:
        return 100 * (points - low) / (high - low)

    return Chart(
        title=title,
        note=note,
        zero=at(0.0),
        bars=tuple(
            Bar(
                label=label,
                start=min(at(0.0), at(drop)),
                length=abs(at(drop) - at(0.0)),
                low=at(interval[0]) if interval else None,
                high=at(interval[1]) if interval else 0.0,
                text=text,
                kind="loss" if drop > 0 else "gain",
            )
            for label, drop, interval, text in rows
        ),
    )


def _kind(name: str) -> str:
    return next(key for key, shown in NAMES.items() if shown == name)
