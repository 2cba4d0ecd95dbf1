"""Devices' answers in the report: what they measured, and nothing that is about another model."""

from __future__ import annotations

import dataclasses
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from exporter.cli import app
from exporter.device.answer import MAX_BYTES, device_report, parse_answer
from exporter.device.merge import merge, read_report
from exporter.errors import DeviceError, OutputError
from exporter.report.json import dumps
from exporter.report.model import BuildReport, NotMeasured
from tests.sample_report import SAMPLE
from tests.tiny_bundle import run_bundle

LATENCY: dict[str, Any] = {
    "runs": 1200, "blocks": 60, "median_ms": 0.75, "median_ci_ms": [0.74, 0.76], "p90_ms": 0.8,
    "load_ms": 12.5, "threads": 2, "pinned_cpus": [3], "peak_memory_mb": 71.5,
    "governor": "ondemand", "before": {"temperature_c": 48.1, "frequency_mhz": 1500},
    "after": {"temperature_c": 53.0, "frequency_mhz": 2400},
}  # fmt: skip


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["merge", *map(str, arguments)])


def without_devices(sha256: str) -> BuildReport:
    assert SAMPLE.models.int8 is not None
    int8 = dataclasses.replace(SAMPLE.models.int8, sha256=sha256)
    models = dataclasses.replace(SAMPLE.models, int8=int8)
    return dataclasses.replace(SAMPLE, models=models, devices=())


@pytest.fixture(scope="module")
def answer(shipped: Path) -> dict[str, Any]:
    """What the runner really answers; the times are made up."""
    return {**run_bundle(shipped), "latency": LATENCY}


@pytest.fixture
def report(answer: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "report.json"
    path.write_text(dumps(without_devices(answer["model_sha256"])))
    return path


def write(path: Path, answer: dict[str, Any], **changes: object) -> Path:
    path.write_text(json.dumps({**answer, **changes}))
    return path


def test_a_report_comes_back_from_its_json(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(dumps(SAMPLE))
    assert dumps(read_report(tmp_path / "report.json")) == dumps(SAMPLE)


def test_devices_stand_in_the_report_with_what_they_measured(
    answer: dict[str, Any], report: Path, tmp_path: Path
) -> None:
    accuracy = {"data": "x", "top1": 75.0, "correct": 3, "total": 4}
    first = write(tmp_path / "a.json", answer, accuracy=accuracy)
    failed = {"passed": False, "error": "Golden outputs differ.", "latency": None}
    second = write(tmp_path / "b.json", answer, **failed)
    out = tmp_path / "all.json"
    result = invoke(report, first, second, "--out", out, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert document == json.loads(out.read_bytes())
    schema = json.loads(files("exporter.report").joinpath("schema.json").read_text())
    jsonschema.validate(document, schema)
    one, two = document["devices"]
    assert one["p50_ms"] == 0.75
    assert one["p50_ci_ms"] == [0.74, 0.76]
    assert (one["runs"], one["threads"], one["governor"]) == (1200, 2, "ondemand")
    assert one["temperature_c"] == [48.1, 53.0]
    assert one["frequency_mhz"] == [1500, 2400]
    assert (one["top1"], one["images"]) == (75.0, 4)
    assert one["cpu"] == answer["machine"]["processor"]
    assert (one["golden_images"], one["golden_agree"]) == (32, 32)
    assert (two["passed"], two["error"]) == (False, "Golden outputs differ.")
    assert two["p50_ms"] == {"not_measured": "the check failed before"}
    text = (tmp_path / "all.md").read_text()
    section = text.split("## Devices")[1].split("\n## ")[0]
    assert "| 32 of 32 | 75.00 % | 0.750 ms | 0.800 ms | 2 | 48 to 53 °C | 1500 to 2400 MHz |" in (
        section
    )
    assert "FAILED: Golden outputs differ." in section
    before = json.loads(report.read_bytes())
    assert {key for key in document if document[key] != before[key]} == {"devices"}


def test_more_devices_join_and_the_same_answer_counts_once(
    answer: dict[str, Any], report: Path, tmp_path: Path
) -> None:
    first = write(tmp_path / "a.json", answer)
    second = write(tmp_path / "b.json", answer, machine={**answer["machine"], "name": "other"})
    out = tmp_path / "all.json"
    merge(report, [first, first], out)
    merged = merge(out, [second, first], out)
    assert [device.name for device in merged.devices] == [answer["machine"]["name"], "other"]


def test_a_bundle_stands_for_its_report_and_is_not_changed(
    answer: dict[str, Any], report: Path, shipped: Path, copy: Path, tmp_path: Path
) -> None:
    (copy / "report.json").write_bytes(report.read_bytes())
    device = write(tmp_path / "a.json", answer)
    assert len(merge(copy, [device], tmp_path / "all.json").devices) == 1
    for out in (copy / "all.json", tmp_path / "all.txt"):
        with pytest.raises(OutputError, match=r"must end in \.json and lie outside of bundles"):
            merge(copy, [device], out)


@pytest.mark.parametrize("sha256", ["0" * 64, None])
def test_an_answer_about_another_model_is_refused(
    answer: dict[str, Any], report: Path, tmp_path: Path, sha256: str | None
) -> None:
    device = write(tmp_path / "a.json", answer, model_sha256=sha256)
    result = invoke(report, device, "--out", tmp_path / "all.json")
    assert (result.exit_code, result.stdout) == (2, "")
    ours = answer["model_sha256"][:12]
    theirs = "000000000000" if sha256 else "unknown"
    assert f"its sha256 is {theirs}…, the report's {ours}…" in result.stderr
    assert not (tmp_path / "all.json").exists()


def test_files_that_are_something_else_are_named(
    answer: dict[str, Any], report: Path, tmp_path: Path
) -> None:
    device = write(tmp_path / "a.json", answer)
    (tmp_path / "text").write_text("no")
    (tmp_path / "deep").write_text("[" * 100_000)
    (tmp_path / "huge").write_bytes(b" " * (MAX_BYTES + 1))
    out = tmp_path / "all.json"
    for name, words in {
        "text": "is not what run.py writes",
        "deep": "is not what run.py writes",
        "absent": "Cannot read",
        "huge": "more than the limit",
        "report.json": "is not what run.py writes",
    }.items():
        with pytest.raises(DeviceError, match=words) as caught:
            merge(report, [tmp_path / name], out)
        assert "\n" not in str(caught.value)
    for name in ("text", "a.json", "absent"):
        with pytest.raises(DeviceError, match=r"is not a report|Cannot read"):
            merge(tmp_path / name, [device], out)
    document = json.loads(report.read_bytes())
    document["models"]["int8"] = None
    report.write_text(json.dumps(document))
    with pytest.raises(DeviceError, match="lacks the model"):
        merge(report, [device], out)
    assert not out.exists()


def test_what_was_not_reached_is_no_measurement(answer: dict[str, Any]) -> None:
    early = parse_answer(json.dumps({**answer, "golden": None, "error": "no"}).encode(), "it")
    with pytest.raises(DeviceError, match="it holds no measurement: no"):
        device_report(early, "it")
    with pytest.raises(DeviceError, match="has version 2, this program reads 1"):
        parse_answer(json.dumps({**answer, "answer_version": 2}).encode(), "it")
    unknown = {"temperature_c": None, "frequency_mhz": None}
    quiet = {**LATENCY, "before": unknown, "after": unknown, "median_ci_ms": None}
    quiet |= {"governor": None, "peak_memory_mb": None}
    found = device_report(parse_answer(json.dumps({**answer, "latency": quiet}).encode(), ""), "")
    for value in (
        found.temperature_c,
        found.frequency_mhz,
        found.p50_ci_ms,
        found.governor,
        found.peak_memory_mb,
        found.top1,
    ):
        assert isinstance(value, NotMeasured)
    assert found.p50_ms == 0.75
