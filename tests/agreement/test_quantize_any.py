"""``quantize --task any`` by the command, on digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from typer.testing import CliRunner, Result

from exporter.cli import app
from exporter.graph.limits import read_model
from exporter.graph.metadata import read_contract
from tests.agreement.files import FEATURES, PLANES, SIDE, two_outputs

DATA = ["--test-share", "0.5", "--calibration-images", "64", "--validation-share", "0.1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("any")
    onnx.save(two_outputs(), folder / "two.onnx")
    onnx.save(two_outputs(resized=True), folder / "resized.onnx")
    onnx.save(two_outputs(kind=TensorProto.INT32), folder / "whole.onnx")
    return folder


def quantize(folder: Path, name: str, *arguments: str) -> Result:
    out = ["--out", f"{folder}/{name}-int8.onnx", "--cache", f"{folder}/cache", "--json"]
    words = ["quantize", f"{folder}/{name}.onnx", *DATA, "--task", "any", *out, *arguments]
    return CliRunner().invoke(app, words)


def test_all_outputs_are_kept_and_compared(folder: Path) -> None:
    found = quantize(folder, "two", "--normalization", "none")

    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["passed"]
    assert document["executed_as_integers"]["QLinearConv"] == 2
    planes, embedding = document["agreement"]["outputs"]
    assert (planes["name"], planes["shape"]) == ("planes", [PLANES, SIDE, SIDE])
    assert (embedding["name"], embedding["shape"]) == ("logits", [FEATURES])
    assert document["gates"][0]["measured"] == min(planes["sqnr_db"], embedding["sqnr_db"]) > 20
    assert 0.8 < planes["same_argmax"] <= 1
    assert embedding["same_argmax"] is None

    int8 = folder / "two-int8.onnx"
    assert read_contract(read_model(int8)).classes == ()
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    ours = ort.InferenceSession(str(int8)).run(None, {"image": pixels})
    images = np.ascontiguousarray((pixels / 255).transpose(0, 3, 1, 2).astype(np.float32))
    theirs = ort.InferenceSession(str(folder / "two.onnx")).run(None, {"x": images})
    for y, x in zip(ours, theirs, strict=True):
        assert np.linalg.norm(y - x) < 0.1 * np.linalg.norm(x)


def test_one_output_of_a_file_for_one_image_with_a_resize_to_a_constant_size(folder: Path) -> None:
    found = quantize(folder, "resized", "--output", "large", "--method", "minmax")
    assert found.exit_code == 0, found.stderr
    (large,) = json.loads(found.stdout)["agreement"]["outputs"]
    assert (large["name"], large["shape"]) == ("large", [PLANES, 2 * SIDE, 2 * SIDE])


def test_a_file_that_agrees_too_little_is_not_written(folder: Path) -> None:
    (folder / "two-int8.onnx").unlink(missing_ok=True)
    found = quantize(folder, "two", "--normalization", "none", "--min-sqnr", "90")
    assert found.exit_code == 1, found.stderr
    document = json.loads(found.stdout)
    assert not document["passed"]
    assert document["model"] is None
    assert document["gates"][0]["limit"] == 90
    assert not (folder / "two-int8.onnx").exists()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("whole", [], "gives no float numbers in 'logits'; --output names another output"),
        (
            "two",
            ["--output", "none"],
            "--output is 'none', but the file's outputs are planes, logits",
        ),
        ("two", ["--recover", "auto"], "--task any has no classes that corrections"),
        ("two", ["--float-layers", "slow"], "--float-layers slow goes by classes"),
        ("two", ["--target", "web-int8"], "--target web-int8 is for classifiers"),
        ("two", ["--classes", "names.txt"], "names classes, but --task any has none"),
        ("two", ["--ranges", "r.json"], "--task any measures ranges itself"),
        ("missing", [], "missing.onnx"),
    ],
)
def test_what_cannot_be_is_one_line(
    folder: Path, name: str, arguments: list[str], message: str
) -> None:
    found = quantize(folder, name, *arguments)
    assert found.exit_code == 2
    error = found.stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["build", "--onnx", "two.onnx", "--task", "any"], "--task any is for `exporter quantize"),
        (["quantize", "two.onnx", "--out", "o.onnx", "--min-sqnr", "9"], "needs --task any"),
        (["quantization-sensitivity", "two.onnx", "--task", "any"], "no classes whose probab"),
    ],
)
def test_other_commands_say_where_it_belongs(
    words: list[str], message: str, tmp_path: Path
) -> None:
    found = CliRunner().invoke(app, [*words, "--cache", str(tmp_path)])
    assert found.exit_code == 2
    assert message in found.stderr
