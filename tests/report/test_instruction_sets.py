from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from exporter.report.instruction_sets import emulators, lost_on, measured_rows, unmeasured
from exporter.report.json import dumps
from exporter.report.markdown import markdown
from exporter.report.model import BuildReport, Gate
from exporter.report.terminal import show
from exporter.report.verdict import advice
from tests.sample_report import SAMPLE

ENTRIES = SAMPLE.instruction_sets


def shown(report: BuildReport) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    show(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_row_for_each_set_that_was_measured() -> None:
    assert measured_rows(ENTRIES) == [
        ("avx512-vnni", "360", "98.06 %", "98.06 %", "0.00 %", ""),
        ("avx2", "100", "97.00 %", "98.00 %", "2.00 %", "at most 0.43"),
    ]


def test_what_was_not_run_is_said_not_to_be_measured() -> None:
    assert unmeasured(ENTRIES) == ["avx512 is not measured: no such CPU here."]


def test_emulation_tells_numbers_and_no_times() -> None:
    assert emulators(ENTRIES) == (
        "Emulated, numerics only, time not measured: avx2 on Haswell (QEMU 7.2.22, onnxruntime "
        "1.32.0)."
    )
    document = json.loads(dumps(SAMPLE))["instruction_sets"]
    assert document[0]["result"]["p50_ms"] == 0.0921
    assert document[1]["result"]["p50_ms"] == {"not_measured": "numerics only, time not measured"}
    assert document[2]["result"] == {"not_measured": "no such CPU here"}


def test_the_markdown_has_them_all() -> None:
    section = markdown(SAMPLE).split("## Instruction sets\n")[1].split("\n## ")[0]
    assert "| avx2 | 100 | 97.00 % | 98.00 % | 2.00 % | at most 0.43 |" in section
    assert "- avx512 is not measured: no such CPU here." in section
    assert "numerics only" in section


@pytest.mark.parametrize(("entries", "there"), [(ENTRIES, True), (ENTRIES[:1], False)])
def test_the_terminal_shows_them_once_others_than_this_cpus_were_asked_for(
    entries: tuple[object, ...], there: bool
) -> None:
    text = shown(dataclasses.replace(SAMPLE, instruction_sets=entries))  # type: ignore[arg-type]
    assert ("at most 0.43" in text) is there
    assert ("avx512 is not measured" in text) is there
    assert max(map(len, text.splitlines())) <= 80


def test_a_loss_on_one_of_them_brings_advice() -> None:
    assert len(lost_on(ENTRIES)) == 1
    gate = Gate(name="drop-avx2", limit=1.0, unit="points", measured=1.3, passed=False)
    (tip,) = advice(dataclasses.replace(SAMPLE, passed=False, bundle=None, gates=(gate,)))
    assert tip.startswith("On avx2 the file loses 1.00 points more")
    assert "exporter targets" in tip
