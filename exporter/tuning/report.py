"""The result of a search: as data, and as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.report.markdown_table import escaped, table
from exporter.report.model import Machine
from exporter.tuning.frontier import Point
from exporter.tuning.space import KEPT, KNOBS


@dataclass(frozen=True, kw_only=True, slots=True)
class Winner:
    """A trial that was built in full and verified on the test images."""

    trial: int
    passed: bool
    """Whether it met the gates of a build."""
    bundle: str | None
    top1: float
    """Of the shipped file on test images, in percent."""
    drop: float
    """Points lost against its dense float network on the same images."""
    kb: float
    ms: float
    speedup: float
    speedup_ci: tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneReport:
    """All that a search found."""

    target: str
    recipe: str
    """What all trials have in common, as TOML."""
    max_drop: float
    max_ms: float | None
    max_kb: float | None
    outcomes: Mapping[str, int]
    """How many trials ended in which way."""
    seconds: float
    """Of this run's search; the winners' builds are not in it."""
    trial_seconds: float
    """Of the measured trials, those of former runs and of other workers included."""
    reused: int
    """Stages of measured trials whose result was there already ..."""
    stages: int
    """... of so many."""
    machine: Machine
    points: tuple[Point, ...]
    frontier: tuple[int, ...]
    """Trials that no other one beats, from the fastest to the slowest."""
    winners: tuple[Winner, ...]


def to_json(report: TuneReport) -> str:
    """Return the report as indented JSON that ends with a newline."""
    from pydantic import TypeAdapter

    return TypeAdapter(TuneReport).dump_json(report, indent=2).decode() + "\n"


def on_frontier(report: TuneReport) -> tuple[Point, ...]:
    """Return the points of the frontier, in its order."""
    by_trial = {point.trial: point for point in report.points}
    return tuple(by_trial[trial] for trial in report.frontier)


def limits(report: TuneReport) -> str:
    """Return what was asked for, in words."""
    asked = [f"at most {report.max_drop:g} points lost on validation images"]
    if report.max_ms:
        asked.append(f"at most {report.max_ms:g} ms")
    if report.max_kb:
        asked.append(f"at most {report.max_kb:g} kB")
    return ", ".join(asked)


def summary(report: TuneReport) -> str:
    """Return in two sentences what was tried and what it cost."""
    ends = ", ".join(f"{count} {how}" for how, count in report.outcomes.items() if count)
    share = 100 * report.reused / report.stages if report.stages else 0.0
    return (
        f"{sum(report.outcomes.values())} trials: {ends or 'none'}; {report.seconds / 60:.1f} "
        f"minutes. {report.reused} of {report.stages} stages of the measured ones ({share:.0f} %) "
        "were there already."
    )


CHOICES = (KEPT, *(knob.name for knob in KNOBS))
HEADER = ("trial", "top-1", "lost", "ms", "kB", *CHOICES)


def row(point: Point) -> tuple[str, ...]:
    """Return a point's figures and choices as text, in the order of ``HEADER``."""
    return (
        str(point.trial),
        f"{point.top1:.2f} %",
        f"{point.drop:.2f}",
        f"{point.ms:.3f}",
        f"{point.kb:.0f}",
        *(
            f"{value:g}" if isinstance(value, float) else str(value)
            for value in (point.values[name] for name in CHOICES)
        ),
    )


def markdown(report: TuneReport) -> str:
    """Return the report as Markdown."""
    lines = [
        f"# Search for {escaped(report.target)}",
        "",
        f"Wanted: {limits(report)}. {summary(report)}",
        "",
        f"Times are medians of one image on one thread of {escaped(report.machine.cpu)}.",
        "",
        "## Frontier",
        "",
    ]
    best = on_frontier(report)
    if best:
        lines += table(HEADER, [[escaped(text) for text in row(point)] for point in best])
        lines += ["", "![Accuracy against time and bytes of every trial](tune.png)", ""]
    else:
        lines += [nothing(report), ""]
    if report.winners:
        lines += ["## Built and verified on test images", ""]
        lines += table(
            ("trial", "top-1", "points lost", "ms", "kB", "times faster (95 % CI)", "gates"),
            [
                [
                    str(winner.trial),
                    f"{winner.top1:.2f} %",
                    f"{winner.drop:.2f}",
                    f"{winner.ms:.3f}",
                    f"{winner.kb:.0f}",
                    f"{winner.speedup:.2f} ({winner.speedup_ci[0]:.2f}-{winner.speedup_ci[1]:.2f})",
                    "passed" if winner.passed else "failed",
                ]
                for winner in report.winners
            ],
        )
        lines.append("")
    lines += ["## Recipe that all trials share", "", "```toml", report.recipe.rstrip(), "```", ""]
    return "\n".join(lines)


def nothing(report: TuneReport) -> str:
    """Return why there is no frontier, and what came nearest."""
    if not report.points:
        return "No trial was measured to the end. Give the search more time."
    nearest = min(report.points, key=lambda point: point.drop)
    return (
        f"No trial kept all limits. The most accurate one, trial {nearest.trial}, lost "
        f"{nearest.drop:.2f} points at {nearest.ms:.3f} ms and {nearest.kb:.0f} kB. Allow more, or "
        "give the search more time."
    )
