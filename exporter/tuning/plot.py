"""A picture of a search: accuracy against time and against bytes, the frontier drawn in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exporter.tuning.frontier import Point
from exporter.tuning.report import TuneReport, on_frontier

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

DOTS_PER_INCH = 150
LEAST_ROOM = 0.5
"""Percentage points above and below the points."""
BEST, OTHERS = "#0072B2", "#999999"
"""Blue of Okabe and Ito's palette, and grey; the markers differ, too."""


def plot_frontier(report: TuneReport, path: Path) -> None:
    """Write the picture to ``path``, in the format its suffix names (.png, .svg)."""
    from matplotlib.figure import Figure  # takes a second to load; not pyplot, which keeps state

    figure = Figure(figsize=(9, 3.8), layout="constrained", facecolor="white")
    by_time, by_bytes = figure.subplots(1, 2, sharey=True)
    _draw(by_time, report, lambda point: point.ms, "ms, one image on one thread", report.max_ms)
    _draw(by_bytes, report, lambda point: point.kb, "kB of the file", report.max_kb)
    by_time.set_ylabel("top-1 on validation images, %")
    top1 = [point.top1 for point in report.points]
    room = max(LEAST_ROOM, 0.1 * (max(top1) - min(top1)))
    by_time.set_ylim(min(top1) - room, max(top1) + room)
    by_bytes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _draw(
    panel: Axes,
    report: TuneReport,
    across: Callable[[Point], float],
    title: str,
    limit: float | None,
) -> None:
    best = sorted(on_frontier(report), key=across)
    others = [point for point in report.points if point.trial not in report.frontier]
    panel.plot(
        [across(point) for point in others],
        [point.top1 for point in others],
        "x",
        color=OTHERS,
        markersize=5,
        label="other trials",
    )
    panel.plot(
        [across(point) for point in best],
        [point.top1 for point in best],
        "o-",
        color=BEST,
        markersize=5,
        linewidth=1,
        label="beaten by no other",
    )
    for point in best:
        panel.annotate(
            str(point.trial),
            (across(point), point.top1),
            xytext=(4, -9),
            textcoords="offset points",
            fontsize=7,
        )
    if limit:
        panel.axvline(limit, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    panel.set_xlabel(title)
    panel.grid(color="0.92", linewidth=0.6)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
