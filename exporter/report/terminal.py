"""The report for a person at a terminal, from 80 columns up, with or without colour."""

from __future__ import annotations

import shlex

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from exporter.report.accuracy import drop_in_words, steps_in_words
from exporter.report.float_layers import COLUMNS as TRIAL_COLUMNS
from exporter.report.float_layers import SHORT as SHORT_TRIALS
from exporter.report.float_layers import (
    FloatLayersReport,
    float_layers_summary,
    trial_notes,
    trial_rows,
)
from exporter.report.instruction_sets import COLUMNS, emulators, measured_rows, unmeasured
from exporter.report.model import BuildReport
from exporter.report.recovery import COLUMNS as RECOVERY_COLUMNS
from exporter.report.recovery import SHORT, RecoveryReport, notes, recovery_rows, summary
from exporter.report.verdict import (
    NAMES,
    advice,
    columns,
    facts,
    outcome,
    remarks,
    verdict,
    worst_class,
)


def show(report: BuildReport, console: Console) -> None:
    """Show the comparison, the verdict, the gates and what to do next."""
    # Not cropped: a command that is copied into a shell must be whole, however long its path.
    console.print(_rendered(report, console.options.ascii_only), crop=False)


def _rendered(report: BuildReport, ascii_only: bool) -> RenderableType:
    return Group(
        _comparison(report),
        "",
        Text(verdict(report)),
        *_proof(report),
        *_worst(report),
        *(Text(remark) for remark in remarks(report)),
        "",
        *_instruction_sets(report),
        *_float_layers(report),
        *_recovery(report),
        _gates(report, ascii_only),
        "",
        *(_success(report) if report.passed else _failure(report, ascii_only)),
    )


def _comparison(report: BuildReport) -> Table:
    setting = f"one image at a time, threads: {report.threads}, {report.machine.cpu}"
    table = Table(caption=Text(setting, style="dim"), caption_justify="left")
    table.add_column("")
    shown = columns(report)
    for name, _ in shown:
        style = "bold" if name == NAMES[report.shipped] else ""
        table.add_column(name, justify="right", style=style)
    for row in zip(*(facts(model) for _, model in shown), strict=True):
        table.add_row(row[0][0], *(value for _, value in row))
    return table


def _proof(report: BuildReport) -> list[Text]:
    """Return nothing where there are no steps, hence nothing to compare."""
    if report.evidence is None or not report.evidence.accuracy.steps:
        return []
    return [Text(drop_in_words(report)), Text(steps_in_words(report))]


def _worst(report: BuildReport) -> list[Text]:
    lost = report.worst_class.drop_points > 0
    return [Text(f"The class that lost most: {worst_class(report)}.")] if lost else []


def _instruction_sets(report: BuildReport) -> list[RenderableType]:
    """Return nothing where this machine's own set alone was asked for."""
    emulated = emulators(report.instruction_sets)
    if not emulated:
        return []
    table = Table(caption=Text(emulated, style="dim"), caption_justify="left")
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if number else "left")
    for row in measured_rows(report.instruction_sets):
        table.add_row(*row)
    return [table, *map(Text, unmeasured(report.instruction_sets)), ""]


def _float_layers(report: BuildReport) -> list[RenderableType]:
    """Return nothing where no layer was to stay float."""
    found = report.quantization and report.quantization.float_layers
    return [float_layers_shown(found), ""] if found else []


def float_layers_shown(found: FloatLayersReport) -> RenderableType:
    """Return which layers stay float, and what was kept of what was tried."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, name in enumerate(SHORT_TRIALS):
        table.add_column(name, justify="right" if number > 1 else "left")
    for row in trial_rows(found):
        cells = dict(zip(TRIAL_COLUMNS, row, strict=True))
        table.add_row(*(Text(cells[name]) for name in SHORT_TRIALS))
    tried = [table] if found.trials else []
    return Group(*tried, *map(Text, (float_layers_summary(found), *trial_notes(found))))


def _recovery(report: BuildReport) -> list[RenderableType]:
    """Return nothing where no search for a smaller drop was asked for."""
    found = report.quantization and report.quantization.recovery
    return [recovery_shown(found), ""] if found else []


def recovery_shown(recovery: RecoveryReport) -> RenderableType:
    """Return what was tried to make the drop smaller, and how it ended."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in SHORT:
        text = name in ("rung", "tried")
        table.add_column(name, justify="left" if text else "right", no_wrap=name != "tried")
    for row in recovery_rows(recovery):
        cells = dict(zip(RECOVERY_COLUMNS, row, strict=True))
        table.add_row(*(Text(cells[name]) for name in SHORT))
    return Group(table, *map(Text, (summary(recovery), *notes(recovery))))


def _gates(report: BuildReport, ascii_only: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    good, bad = ("ok", "NO") if ascii_only else ("✓", "✗")
    for gate in report.gates:
        mark = Text(good, style="green") if gate.passed else Text(bad, style="bold red")
        table.add_row(mark, gate.name, Text(outcome(gate)))
    return table


def _success(report: BuildReport) -> list[RenderableType]:
    lines: list[RenderableType] = [Text("Passed: every gate was met.", style="bold green")]
    if report.bundle is not None:
        lines += [
            _unbroken(f"Bundle:  {report.bundle}"),
            _unbroken(f"Try it:  python {shlex.quote(f'{report.bundle}/run.py')} IMAGE"),
        ]
    return lines


def _failure(report: BuildReport, ascii_only: bool) -> list[RenderableType]:
    failed = ", ".join(gate.name for gate in report.gates if not gate.passed)
    tips = Table.grid(padding=(0, 1))
    for tip in advice(report):
        tips.add_row("-" if ascii_only else "•", Text(tip, overflow="fold"))
    return [
        Text(f"Failed: {failed}. No bundle was made.", style="bold red"),
        "What to try:",
        Padding(tips, (0, 0, 0, 2)),
    ]


def _unbroken(line: str) -> Text:
    return Text(line, no_wrap=True, overflow="ignore")
