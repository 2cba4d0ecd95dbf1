"""The stages one by one, each reading what the one before wrote."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from exporter.cli import app

Run = Callable[..., Result]
SMALL = ["--model", "simple-cnn", "--widths", "16,16,32", "--epochs", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Run a command with files named relative to the folder."""

    def invoke(command: str, *arguments: str) -> Result:
        words = [word.replace("@", f"{folder}/") for word in arguments]
        return CliRunner().invoke(app, [command, *words, "--cache", f"{folder}/cache", "--quiet"])

    return invoke


@pytest.fixture(scope="module")
def documents(run: Run) -> dict[str, dict[str, Any]]:
    """Run all stages; return the JSON document of each."""
    lines = {
        "train": ["train", *SMALL, "--out", "@dense"],
        "prune": ["prune", "@dense", "--prune", "0.5", "--finetune-epochs", "1", "--out", "@small"],
        "dense": ["convert", "@dense", "--out", "@dense.onnx"],
        "small": ["convert", "@small", "--out", "@small.onnx"],
        "calibrate": ["calibrate", "@small.onnx", "--method", "minmax", "--out", "@ranges.json"],
        "auto": ["calibrate", "@small.onnx", "--out", "@all"],
        "quantize": ["quantize", "@small.onnx", "--ranges", "@ranges.json", "--out", "@int8.onnx"],
        "verify": [
            "verify", "--dense", "@dense.onnx", "--small", "@small.onnx", "--int8", "@int8.onnx",
            "--timing-seconds", "0.2", "--max-drop", "100", "--min-speedup", "0",
        ],
    }  # fmt: skip
    results = {name: run(*line, "--json") for name, line in lines.items()}
    failed = {name: result.stderr for name, result in results.items() if result.exit_code}
    assert failed == {}
    return {name: json.loads(result.stdout) for name, result in results.items()}


def test_every_stage_says_what_it_wrote(documents: dict[str, Any], folder: Path) -> None:
    assert documents["train"]["checkpoint"] == str(folder / "dense")
    assert documents["train"]["widths"] == [16, 16, 32]
    assert documents["prune"]["checkpoint"] == str(folder / "small")
    assert documents["prune"]["widths_before_and_after"]["fc1"] == [32, 16]
    assert documents["calibrate"]["ranges"] == [str(folder / "ranges.json")]
    assert sorted(Path(path).stem for path in documents["auto"]["ranges"]) == [
        "entropy", "minmax", "mse", "percentile",
    ]  # fmt: skip
    assert documents["quantize"]["executed_as_integers"]["QLinearConv"] == 2
    assert documents["quantize"]["executed_in_float"] == {}
    for name in ("dense.onnx", "small.onnx", "int8.onnx", "ranges.json", "all/mse.json"):
        assert (folder / name).stat().st_size > 0


def test_small_is_smaller_than_dense_and_close_to_torch(documents: dict[str, Any]) -> None:
    assert documents["small"]["parameters"] < documents["dense"]["parameters"]
    assert documents["small"]["largest_difference_from_torch"] < 1e-4


def test_verify_judges_the_files_it_was_given(documents: dict[str, Any], folder: Path) -> None:
    report = documents["verify"]
    assert report["passed"] is True
    assert report["bundle"] is None
    for name in ("dense", "small", "int8"):
        assert report["models"][name]["path"] == str(folder / f"{name}.onnx")
        assert report["models"][name]["bytes"] == (folder / f"{name}.onnx").stat().st_size
    assert report["models"]["dense"]["parameters"] == documents["dense"]["parameters"]
    assert report["models"]["int8"]["total"] == report["models"]["dense"]["total"] > 300


@pytest.mark.usefixtures("documents")
def test_verify_exits_1_where_a_gate_fails(run: Run) -> None:
    files = ["--dense", "@dense.onnx", "--int8", "@int8.onnx", "--timing-seconds", "0.2"]
    result = run("verify", *files, "--max-drop", "100", "--min-speedup", "1000", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["models"]["small"] is None


@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize("stage", ["dense", "small"])
@pytest.mark.parametrize("fault", ["changed", "missing"])
def test_weights_that_are_not_those_of_the_stage_are_refused(
    run: Run, folder: Path, tmp_path: Path, stage: str, fault: str
) -> None:
    shutil.copytree(folder / stage, tmp_path / stage)
    weights = tmp_path / stage / "weights.safetensors"
    if fault == "changed":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    else:
        weights.unlink()
    result = run("convert", f"{tmp_path}/{stage}", "--out", f"{tmp_path}/out.onnx")
    assert result.exit_code == 2
    assert f"{weights} {'has changed' if fault == 'changed' else 'is missing'}" in result.stderr
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.usefixtures("documents")
def test_inspect_shows_int8_and_float(run: Run, folder: Path) -> None:
    int8 = CliRunner().invoke(app, ["inspect", f"{folder}/int8.onnx", "--json"])
    document = json.loads(int8.stdout)
    assert document["quantized"] is True
    assert document["floating"] == {}
    assert document["contract"]["classes"] == [str(digit) for digit in range(10)]
    assert all(layer["safe"] for layer in document["saturation"]["layers"])
    shown = CliRunner().invoke(app, ["inspect", f"{folder}/dense.onnx"])
    assert shown.exit_code == 0
    assert "uint8 [N, 32, 32, 3]" in shown.stdout
    assert "32x32 RGB" in shown.stdout


@pytest.mark.usefixtures("documents")
def test_inspect_measures_saturation_on_images(run: Run, folder: Path) -> None:
    full = ["--target", "cpu-int8-vnni", "--ranges", "@ranges.json", "--out", "@full.onnx"]
    assert run("quantize", "@small.onnx", *full).exit_code == 0
    static = json.loads(run("inspect", "@full.onnx", "--json").stdout)["saturation"]
    measured = run("inspect", "@full.onnx", "--data", "digits", "--json")

    found = json.loads(measured.stdout)["saturation"]

    assert (static["images"], found["images"]) == (0, 64)
    risky = [layer["name"] for layer in static["layers"] if not layer["safe"]]
    assert risky
    for before, after in zip(static["layers"], found["layers"], strict=True):
        assert (before["clipped_share"] is None) == (before["name"] in risky)
        assert 0 <= after["clipped_share"] < after["risky_share"] or after["safe"]
    shown = run("inspect", "@full.onnx", "--data", "digits").stdout
    assert f"possible in {len(risky)} of" in shown
    assert all(name in shown for name in risky)


@pytest.mark.usefixtures("documents")
def test_a_file_for_minimal_builds_is_quantized_and_verified(run: Run, folder: Path) -> None:
    ranges = ["--ranges", "@ranges.json", "--target", "mobile-int8"]
    assert run("quantize", "@small.onnx", *ranges, "--out", "@m.ort").exit_code == 0
    assert (folder / "m.ort").read_bytes()[4:8] == b"ORTM"
    assert "QLinearConv" in (folder / "m.config").read_text()
    gates = ["--max-drop", "100", "--min-speedup", "0", "--timing-seconds", "0.2"]
    models = ["--dense", "@dense.onnx", "--int8", "@m.ort"]
    done = run("verify", *models, *gates, "--target", "mobile-int8", "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)["models"]["int8"]
    assert found["path"] == str(folder / "m.ort")
    assert found["bytes"] == (folder / "m.ort").stat().st_size


@pytest.mark.usefixtures("documents")
def test_without_int8_the_pruned_float_file_is_judged(run: Run) -> None:
    models = ["--dense", "@dense.onnx", "--small", "@small.onnx"]
    gates = ["--max-drop", "100", "--min-speedup", "0", "--timing-seconds", "0.2"]
    done = run("verify", *models, *gates, "--target", "cpu-fp32", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["shipped"], document["models"]["int8"]) == ("small", None)


@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize(
    "line",
    [
        ["train", "--model", "resnet9", "--out", "@x"],
        ["train", *SMALL, "--data", "@nowhere", "--out", "@x"],
        ["train", *SMALL[:2], "--widths", "16", "--out", "@x"],
        ["train", *SMALL, "--out", "@ranges.json"],
        ["prune", "@nowhere", "--out", "@x"],
        ["prune", "@small", "--out", "@x"],
        ["prune", "@dense", "--criterion", "guess", "--out", "@x"],
        ["convert", "@nowhere", "--out", "@x.onnx"],
        ["convert", "@dense", "--out", "@ranges.json/x.onnx"],
        ["calibrate", "@ranges.json", "--out", "@x"],
        ["calibrate", "@nowhere.onnx", "--out", "@x"],
        ["calibrate", "@small.onnx", "--method", "guess", "--out", "@x"],
        ["quantize", "@small.onnx", "--ranges", "@nowhere", "--out", "@x"],
        ["quantize", "@small.onnx", "--ranges", "@small.onnx", "--out", "@x"],
        ["quantize", "@dense.onnx", "--ranges", "@ranges.json", "--out", "@x"],
        ["verify", "--dense", "@nowhere.onnx", "--int8", "@int8.onnx"],
        ["verify", "--dense", "@dense.onnx", "--int8", "@ranges.json"],
        ["verify", "--dense", "@dense.onnx"],
        [
            "quantize",
            "@small.onnx",
            "--ranges",
            "@ranges.json",
            "--target",
            "cpu-fp32",
            "--out",
            "@x",
        ],
        ["quantize", "@small.onnx", "--ranges", "@ranges.json", "--out", "@x.ort"],
        ["prune", "@dense", "--target", "cpu-fp32", "--max-kb", "30", "--out", "@x"],
    ],
    ids=" ".join,
)
def test_bad_input_is_exit_code_2_one_line_and_no_file(
    run: Run, folder: Path, line: list[str]
) -> None:
    result = run(*line, "--json")
    assert result.exit_code == 2, result.exception
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not (folder / "x").exists()
    assert not (folder / "x.onnx").exists()
