from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from exporter.report.markdown import markdown
from exporter.report.recovery import (
    COLUMNS,
    SENSITIVITY_COLUMNS,
    notes,
    recovery_rows,
    sensitivity_rows,
    summary,
)
from exporter.report.terminal import recovery_shown, show
from tests.sample_recovery import RECOVERY
from tests.sample_report import SAMPLE

assert SAMPLE.quantization is not None
REPORT = dataclasses.replace(
    SAMPLE, quantization=dataclasses.replace(SAMPLE.quantization, recovery=RECOVERY)
)


def lines_of(draw: object) -> list[str]:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(draw)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_each_attempt_is_a_row_with_its_cost_and_what_it_gained() -> None:
    rows = recovery_rows(RECOVERY)

    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert rows[0][2:] == ["3.2", "86.00 %", "5.20", "30 / 4", "21.00 %", "yes"]
    assert rows[1][2] == "cached"
    assert rows[2][-1] == "no"
    assert rows[3][3] == "not possible"
    assert rows[4][:2] == ["fallback", "2 in float: stem|0, block1.conv"]


def test_layers_are_told_in_the_order_of_the_report() -> None:
    rows = sensitivity_rows(RECOVERY)

    assert {len(row) for row in rows} == {len(SENSITIVITY_COLUMNS)}
    assert rows[0] == ["block1.conv", "Conv", "10.0 %", "0.052", "0.004", "9"]


@pytest.mark.parametrize(
    ("budget", "images", "meaning"),
    [(0.5, 500, "2 may be lost"), (0.2, 70, "no image may be lost"), (0.3, 1000, "3 may be lost")],
)
def test_what_the_budget_means_in_images(budget: float, images: int, meaning: str) -> None:
    found = dataclasses.replace(
        RECOVERY, budget_points=budget, images=images, image_points=100 / images
    )

    assert meaning in summary(found)
    assert f"worth {100 / images:.2f} points" in summary(found)


def test_the_notes_tell_how_far_the_choice_can_be_trusted() -> None:
    refused, trust, fallen = notes(RECOVERY)

    assert refused.startswith("corrections, equalize: there is nothing")
    assert "-0.20 to 0.80" in trust
    assert "1.57" in trust
    assert "stem|0, block1.conv" in fallen
    assert "12.5 %" in fallen
    assert "1.18 times as long" in fallen
    kept = dataclasses.replace(RECOVERY, float_layers=(), time_ratio=None, time_ratio_ci=None)
    assert notes(kept) == [refused, trust]


def test_the_terminal_shows_every_attempt_within_80_columns() -> None:
    lines = lines_of(recovery_shown(RECOVERY))

    assert max(map(len, lines)) <= 80
    assert sum("corrections" in line for line in lines) >= 2
    console = Console(file=io.StringIO(), width=80, color_system=None)
    show(REPORT, console)
    assert isinstance(console.file, io.StringIO)
    assert "the best of" in console.file.getvalue()


def test_markdown_has_both_tables_and_breaks_no_cell() -> None:
    lines = markdown(REPORT).splitlines()

    start = lines.index("### Recovery")
    table = [line for line in lines[start:] if line.startswith("|")]
    assert len(table) >= 2 + len(RECOVERY.attempts) + 2 + len(RECOVERY.sensitivity)
    row = next(line for line in table if "2 in float" in line)
    assert "stem\\|0" in row
    assert "### Recovery" not in markdown(SAMPLE)
