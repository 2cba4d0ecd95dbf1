from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from exporter.report.model import BuildReport, Gate
from exporter.report.terminal import show
from tests.sample_report import SAMPLE


def shown(report: BuildReport) -> list[str]:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    show(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.fixture
def failed() -> BuildReport:
    slow = Gate(name="min-speedup", limit=7.0, unit="times", measured=6.42, passed=False)
    return dataclasses.replace(SAMPLE, passed=False, bundle=None, gates=(SAMPLE.gates[0], slow))


def row(lines: list[str], name: str) -> list[str]:
    (line,) = [line for line in lines if name in line and "│" in line]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_table_holds_three_models_side_by_side() -> None:
    lines = shown(SAMPLE)

    assert row(lines, "accuracy")[1:] == ["98.33 %", "98.61 %", "98.06 %"]
    assert row(lines, "file size")[1:] == ["1.28 MB", "512.0 kB", "141.0 kB"]
    assert row(lines, "p50")[1:] == ["0.591 ms", "0.291 ms", "0.092 ms"]
    assert row(lines, "p90")[1:] == ["0.620 ms", "0.310 ms", "0.096 ms"]
    assert row(lines, "parameters")[1:] == ["320,906", "127,498", "127,498"]
    assert row(lines, "multiply-adds")[1:] == ["41.53 M", "17.01 M", "17.01 M"]


def test_a_model_that_was_not_pruned_has_no_column_of_its_own() -> None:
    models = dataclasses.replace(SAMPLE.models, small=None)

    assert row(shown(dataclasses.replace(SAMPLE, models=models)), "p50")[1:] == [
        "0.591 ms",
        "0.092 ms",
    ]


def test_big_models_fit_into_80_columns(failed: BuildReport) -> None:
    big = dataclasses.replace(
        SAMPLE.models.dense,
        bytes=1_999_999_999,
        parameters=500_000_000,
        macs=150_000_000_000,
        correct=1_234_567,
        total=1_281_167,
        p50_ms=1234.5,
        p90_ms=2345.6,
    )
    models = dataclasses.replace(SAMPLE.models, dense=big, small=big, int8=big)
    lines = shown(dataclasses.replace(failed, models=models))

    assert max(map(len, lines)) <= 80
    assert row(lines, "correct of 1,281,167")[1] == "1,234,567"
    assert row(lines, "parameters")[1] == "500,000,000"


def test_a_passed_build_says_where_the_bundle_is_and_how_to_run_it() -> None:
    folder = "/a/folder/with/a/very/long/name" * 4
    lines = shown(dataclasses.replace(SAMPLE, bundle=folder))

    assert f"Bundle:  {folder}" in lines
    assert f"Try it:  python {folder}/run.py IMAGE" in lines
    assert not any("What to try" in line for line in lines)


def test_a_failed_build_names_the_gate_and_what_to_try(failed: BuildReport) -> None:
    lines = shown(failed)

    assert any(line.startswith("✓  max-drop") for line in lines)
    assert any(line.startswith("✗  min-speedup") for line in lines)
    assert "Failed: min-speedup. No bundle was made." in lines
    assert any("--min-speedup 6.4" in line for line in lines)
    assert not any("run.py" in line for line in lines)


def test_a_console_without_unicode_is_spared(failed: BuildReport) -> None:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=80)

    show(failed, console)

    console.file.flush()
    text = console.file.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "NO  min-speedup" in text


def test_names_in_brackets_are_no_markup() -> None:
    worst = dataclasses.replace(SAMPLE.worst_class, name="[red]fish[/red]")
    machine = dataclasses.replace(SAMPLE.machine, cpu="[bold]CPU[/]")

    text = "\n".join(shown(dataclasses.replace(SAMPLE, worst_class=worst, machine=machine)))

    assert "[red]fish[/red]" in text
    assert "[bold]CPU[/]" in text
