from __future__ import annotations

import dataclasses
import io
import json
import re

import jsonschema
from rich.console import Console

from exporter.report.float_layers import (
    COLUMNS,
    FloatLayersReport,
    FloatTrial,
    float_layers_summary,
    trial_notes,
    trial_rows,
)
from exporter.report.json import dumps
from exporter.report.markdown import markdown
from exporter.report.not_measured import NotMeasured
from exporter.report.schema import schema_text
from exporter.report.terminal import show
from tests.sample_report import SAMPLE

PADDED = FloatTrial(
    layer="stem|0",
    change="padded to 4 input channels",
    int8_ms=0.0563,
    float_ms=None,
    time_ratio=NotMeasured(not_measured="stem could saturate."),
    time_ratio_ci=None,
    noise=None,
    correct=NotMeasured(not_measured="it is not faster"),
    kept=False,
)
FLOAT = FloatTrial(
    layer="stem|0",
    change="left in float",
    int8_ms=0.0563,
    float_ms=0.0248,
    time_ratio=0.937,
    time_ratio_ci=(0.925, 0.941),
    noise=1.024,
    correct=1056,
    kept=True,
)
SEARCH = FloatLayersReport(
    asked="slow",
    layers=("stem|0",),
    padded_stem=None,
    images=1100,
    correct=1055,
    trials=(PADDED, FLOAT),
    time_ratio=0.9364,
    time_ratio_ci=(0.932, 0.95),
)
NAMED = dataclasses.replace(SEARCH, asked="a,b", layers=("a", "b"), trials=(), time_ratio=None)
NOTHING = dataclasses.replace(
    SEARCH, layers=(), trials=(PADDED,), time_ratio=None, time_ratio_ci=None
)
assert SAMPLE.quantization is not None
REPORT = dataclasses.replace(
    SAMPLE, quantization=dataclasses.replace(SAMPLE.quantization, float_layers=SEARCH)
)


def test_each_trial_is_a_row_with_what_the_layer_and_the_file_take() -> None:
    first, second = trial_rows(SEARCH)
    assert len(first) == len(second) == len(COLUMNS)
    assert first[2:] == ["56.3 µs", "", "not possible", "", "", "no"]
    times = ["56.3 µs", "24.8 µs", "0.937 (0.925 to 0.941)", "1.024", "1,056 of 1,100", "yes"]
    assert second[2:] == times
    assert trial_notes(SEARCH) == ["stem|0 padded to 4 input channels: stem could saturate."]


def test_the_summary_tells_what_was_gained_or_that_nothing_was() -> None:
    assert float_layers_summary(SEARCH) == (
        "For speed: stem|0 left in float. An image takes 0.936 times as long as without that "
        "(95 % CI 0.932 to 0.950)."
    )
    assert float_layers_summary(NAMED) == "Left in float as asked for: a, b."
    assert "none makes the file faster" in float_layers_summary(NOTHING)
    assert "No layer takes longer" in float_layers_summary(dataclasses.replace(NOTHING, trials=()))


def test_terminal_markdown_and_json_tell_it() -> None:
    text = markdown(REPORT)
    assert "### Layers in float" in text
    assert "| stem\\|0 | left in float | 56.3 µs | 24.8 µs |" in text
    console = Console(file=io.StringIO(), width=80, color_system=None)
    show(REPORT, console)
    assert isinstance(console.file, io.StringIO)
    shown = re.sub(r"\s+", " ", console.file.getvalue())
    assert "For speed: stem|0 left in float. An image takes 0.936 times as long" in shown
    assert "Layers in float" not in markdown(SAMPLE)
    document = json.loads(dumps(REPORT))
    jsonschema.validate(document, json.loads(schema_text()))
    assert document["quantization"]["float_layers"]["trials"][1]["time_ratio"] == 0.937
