from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

from pydantic import TypeAdapter

from exporter.report.json import dumps
from exporter.report.model import BuildReport, Gate, NotMeasured
from tests.sample_report import SAMPLE


def test_nothing_is_lost_on_the_way_to_json_and_back() -> None:
    assert TypeAdapter(BuildReport).validate_json(dumps(SAMPLE)) == SAMPLE


def test_what_was_not_measured_carries_its_reason() -> None:
    gate = Gate(
        name="max-drop",
        limit=1.0,
        unit="points",
        measured=NotMeasured(not_measured="no test images"),
        passed=False,
    )

    document = json.loads(dumps(dataclasses.replace(SAMPLE, gates=(gate,))))

    assert document["gates"][0]["measured"] == {"not_measured": "no test images"}


def test_the_text_is_one_document_with_numbers_as_they_are() -> None:
    text = dumps(SAMPLE)

    document = json.loads(text)
    assert text.endswith("}\n")
    assert document["models"]["int8"]["top1"] == 100 * 353 / 360
    assert document["speedup_ci"] == [6.39, 6.44]
    assert document["recipe"]["train"] == {"model": "edge-vgg", "epochs": 0, "flip": None}


def test_the_types_load_neither_pydantic_nor_onnxruntime() -> None:
    code = "import sys, exporter.report.model, exporter.report.json; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"pydantic", "onnxruntime", "torch", "numpy"} & set(loaded)
