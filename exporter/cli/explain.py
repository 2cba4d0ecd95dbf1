"""`explain`: where a file's time goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter.cli.answer import Answer, to_json
from exporter.cli.command import command
from exporter.config import BuildConfig

if TYPE_CHECKING:
    from exporter.explanation.explain import Explanation
    from exporter.explanation.rows import Row

SHOWN = 20
"""Operators in the table; those that take longest."""


@command("verify.threads", "verify.timing_seconds")
def explain(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help=".onnx or .ort file of this program.")
    ],
    config: BuildConfig,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            metavar="FLOAT.onnx",
            help="Float file whose layers are put beside it, by their names. \\[default: none]",
        ),
    ] = None,
) -> Answer:
    """Show the time of every operator, beside float, what stayed float, and what would help."""
    from exporter.explanation.explain import explain_file

    found = explain_file(model, baseline, config.verify)
    return Answer(json=to_json(found), draw=lambda console: draw(found, console))


def draw(found: Explanation, console: Console) -> None:
    """Show the slowest operators, and below them what there is to know."""
    from exporter.report.verdict import milliseconds

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("layer", overflow="fold")
    table.add_column("executed as")
    for heading in ("µs", "share", *(["float µs", "faster"] if found.baseline else [])):
        table.add_column(heading, justify="right")
    slowest = sorted(found.operators, key=lambda row: -row.ms)
    for row in slowest[:SHOWN]:
        table.add_row(Text(row.name), _kind(row), *_figures(row, found))
    console.print(table)
    rest = slowest[SHOWN:]
    if rest:
        console.print(f"and {len(rest)} more, {1000 * sum(row.ms for row in rest):.1f} µs")
    console.print()
    for line in _lines(found):
        console.print(Text(line))
    timed = f"One image takes {milliseconds(found.run_ms)}"
    if found.baseline_ms is not None:
        timed += f", {milliseconds(found.baseline_ms)} in the baseline"
    console.print(
        Text(
            f"{timed}; threads: {found.threads}, {found.cpu}. Shares are those of ONNX Runtime's "
            "profile, scaled to that.",
            style="dim",
        )
    )


def _kind(row: Row) -> Text:
    return Text(row.operator, style="" if row.integer or row.float_reason is None else "yellow")


def _figures(row: Row, found: Explanation) -> list[str]:
    own = [f"{1000 * row.ms:.1f}", f"{100 * row.ms / found.run_ms:.1f} %"]
    if found.baseline is None:
        return own
    if row.baseline_ms is None or not row.ms:
        return [*own, "", ""]
    return [*own, f"{1000 * row.baseline_ms:.1f}", f"{row.baseline_ms / row.ms:.2f}x"]


def _lines(found: Explanation) -> Iterator[str]:
    yield from _fused(found)
    if found.conversions:
        yield (
            f"Conversions: {found.conversions_executed} of {found.conversions} quantize and "
            f"dequantize operators are executed, {1000 * found.conversions_ms:.1f} µs."
        )
    alone = [row for row in found.only_in_baseline if row.baseline_ms]
    if alone:
        total = sum(row.baseline_ms or 0.0 for row in alone)
        counted = _counted(Counter(str(row.baseline_operator) for row in alone))
        yield f"Only in the baseline: {counted}, {1000 * total:.1f} µs."
    reasons = Counter(
        f"{row.operator} {row.float_reason}" for row in found.operators if row.float_reason
    )
    for reason, count in reasons.items():
        yield f"In float: {count} {reason}."
    for entry in found.advice:
        yield (
            f"What would help ({1000 * entry.ms:.1f} µs, {100 * entry.ms / found.run_ms:.0f} %): "
            f"{entry.text} ({_named(entry.layers)})."
        )


def _fused(found: Explanation) -> Iterator[str]:
    kinds = {row.name: row.operator for row in found.operators}
    into = Counter(
        f"{entry.operator} into {kinds[entry.into]}" for entry in found.fused if entry.into
    )
    gone = Counter(entry.operator for entry in found.fused if entry.into is None)
    if into:
        yield f"Fused: {_counted(into)}."
    if gone:
        yield f"Not executed: {_counted(gone)}."


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _named(layers: tuple[str, ...]) -> str:
    few = ", ".join(layers[:3])
    return few if len(layers) <= 3 else f"{few} and {len(layers) - 3} more"
