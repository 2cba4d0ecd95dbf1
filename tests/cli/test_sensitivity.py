"""`sensitivity` from the outside, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from exporter.cli import app
from exporter.config import PruneConfig
from exporter.pruning.sensitivity import scan_config, widths_to_try

ROOT = Path(__file__).parents[2]
NETWORK = ["--model", "simple-cnn", "--widths", "16,32,32", "--epochs", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sensitivity")
    line = ["train", *NETWORK, "--out", f"{path}/dense", "--cache", f"{path}/cache", "--quiet"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.stderr
    return path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exporter", "sensitivity", *arguments, "--cache", f"{folder}/cache"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_json_on_stdout_is_the_file_and_a_plot_lies_beside_it(folder: Path) -> None:
    out = folder / "scan" / "found.json"
    line = [f"{folder}/dense", "--criterion", "l1", "--out", str(out)]
    done = run(folder, *line, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert json.loads(out.read_text()) == found
    assert found["criterion"] == "l1"
    assert found["target"] == "cpu-int8"
    assert found["macs"] > 0
    assert found["ms"] > 0
    shares = scan_config(PruneConfig()).shares
    assert {group["name"]: group["width"] for group in found["groups"]} == {
        "conv1": 16, "conv2": 32, "fc1": 32,
    }  # fmt: skip
    for group in found["groups"]:
        widths = [point["width"] for point in group["points"]]
        assert widths == list(widths_to_try(group["width"], shares, 16))
        assert all(point["macs"] < found["macs"] for point in group["points"])
    with Image.open(out.with_suffix(".png")) as picture:
        assert min(picture.size) > 300
    tables = list((folder / "cache").glob("layer-times-*.json"))
    assert len(tables) == 1

    # A second time it comes from the cache; a table instead of JSON has a row per point.
    again = CliRunner().invoke(app, ["sensitivity", *line, "--cache", f"{folder}/cache"])
    assert again.exit_code == 0, again.stderr
    rows = again.stdout.splitlines()
    assert len(rows) == 2 + sum(len(group["points"]) for group in found["groups"])
    assert "Scanning" not in again.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["@/dense", "--out", "@/found.png"], "must end in .json"),
        (["@/nothing", "--out", "@/found.json"], "@/nothing is not a checkpoint"),
        (["@/dense", "--out", "@/found.json", "--scan-shares", "1.5"], "--scan-shares takes"),
        (["@/dense", "--out", "@/found.json", "--criterion", "luck"], "Unknown criterion 'luck'"),
        (["@/dense", "--out", "@/found.json", "--target", "gpu"], "Unknown target 'gpu'"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(
    arguments: list[str], word: str, folder: Path
) -> None:
    line = ["sensitivity", *arguments, "--cache", "@/cache", "--quiet"]
    result = CliRunner().invoke(app, [part.replace("@", str(folder)) for part in line])
    assert result.exit_code == 2
    assert word.replace("@", str(folder)) in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (folder / "found.json").exists()
