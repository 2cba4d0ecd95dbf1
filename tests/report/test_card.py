from __future__ import annotations

import dataclasses
import json

from exporter.contract import InputContract
from exporter.report.card import OWNER, model_card
from exporter.report.markdown_table import escaped
from tests.sample_report import SAMPLE

CONTRACT = InputContract(height=24, width=32, classes=("cat", "a | b\nc"))


def card(**changes: object) -> str:
    return model_card(dataclasses.replace(SAMPLE, **changes), "net", CONTRACT)  # type: ignore[arg-type]


def test_the_head_is_metadata_with_the_measured_accuracy() -> None:
    _, head, text = card().split("---\n", 2)

    found = {
        key: json.loads(value) for key, value in (line.split(": ", 1) for line in head.splitlines())
    }
    assert found["pipeline_tag"] == "image-classification"
    (result,) = found["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == round(SAMPLE.shipped_model.top1 / 100, 6)
    assert text.lstrip().startswith("# net for ")


def test_what_was_measured_is_filled_in_and_what_only_the_owner_knows_is_not() -> None:
    text = card()

    assert f"{SAMPLE.drop_points:.2f}" in text
    assert escaped(SAMPLE.worst_class.name) in text
    assert "24x32 pixels" in text
    assert text.count(OWNER) == 5
    assert "Not measured, neither of training nor of use." in text
    for warning in SAMPLE.warnings:
        assert warning in text


def test_class_names_break_no_table_and_no_line() -> None:
    assert "cat, a \\| b c." in card()


def test_of_many_classes_the_first_are_listed() -> None:
    many = InputContract(height=8, width=8, classes=tuple(f"c{n}" for n in range(1000)))

    text = model_card(SAMPLE, "net", many)

    assert "c19 and 980 more (`labels.txt`)" in text


def test_without_evidence_and_quantization_it_is_still_a_card() -> None:
    text = card(evidence=None, quantization=None, pruning=None, intake=None, recipe={}, warnings=())

    assert "Source: not stated." in text
    assert "No calibration: it computes in float." in text
