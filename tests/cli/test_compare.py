"""`compare`: finished models side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from exporter.cli import app
from exporter.cli.compare import distinct_names
from exporter.verification.mcnemar import mcnemar_p
from exporter.verification.score_interval import drop_interval
from tests.conftest import CLASSES, SIDE
from tests.verification.linear_model import RIGHT, linear_model, qdq_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of images of the shared test dataset's kind, and models that fit it."""
    root = tmp_path_factory.mktemp("compare")
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (root / "data" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 160, (SIDE, SIDE, 3), dtype=np.uint8)
            pixels[..., 2 - label] += 60
            Image.fromarray(pixels).save(root / "data" / name / f"{number}.png")
    linear_model(root / "dense.onnx", RIGHT)
    qdq_model(root / "int8.onnx")
    linear_model(root / "confused.onnx", RIGHT[:, [1, 0, 2]])
    linear_model(root / "four.onnx", np.ones((3, 4), np.float32))
    return root


def run(folder: Path, models: Sequence[str], *options: str) -> Result:
    files = [f"{folder}/{name}" for name in models]
    data = ["--data", f"{folder}/data", "--size", f"{SIDE}x{SIDE}", "--cache", f"{folder}/cache"]
    return CliRunner().invoke(
        app, ["compare", *files, *data, "--timing-seconds", "0.2", "--quiet", *options]
    )


def test_all_are_compared_with_the_first(folder: Path) -> None:
    result = run(folder, ["dense.onnx", "int8.onnx", "confused.onnx"], "--json")

    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    dense, int8, confused = document["models"]
    assert dense["against_first"] is None
    assert (dense["correct"], document["images"]) == (12, 12)
    assert int8["against_first"]["drop_points"] == 0.0
    found, lost = confused["against_first"], 12 - confused["correct"]
    assert (found["lost"], found["gained"]) == (lost, 0)
    assert lost == 8
    assert found["mcnemar_p"] == pytest.approx(2 * mcnemar_p(8, 0))
    assert found["drop_ci"] == pytest.approx([100 * end for end in drop_interval(8, 0, 12)])
    for model in document["models"]:
        assert model["bytes"] == Path(model["path"]).stat().st_size
        assert model["p50_ms"] > 0
    for model in (int8, confused):
        low, high = model["against_first"]["speedup_ci"]
        assert low <= model["against_first"]["speedup"] <= high
    assert document["noise"] >= 1


def test_a_person_sees_a_row_for_each(folder: Path) -> None:
    lines = run(folder, ["dense.onnx", "confused.onnx"]).stdout.splitlines()

    (row,) = [line.split() for line in lines if line.startswith("confused.onnx")]
    assert row[1:4] == ["33.33", "%", "66.67"]
    assert any(line.startswith("dense.onnx") for line in lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (["dense.onnx"], "There are 1 models to compare. Give at least two."),
        (["dense.onnx", "dense.onnx"], "A model is named twice."),
        (["dense.onnx", "none.onnx"], "none.onnx is not a file."),
        (["dense.onnx", "four.onnx"], "four.onnx tells 4 classes apart, but the data has 3."),
    ],
)
def test_what_cannot_be_compared(folder: Path, models: list[str], message: str) -> None:
    result = run(folder, models)

    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.onnx", "b/y.onnx"], ["x.onnx", "y.onnx"]),
        (["a/model.onnx", "b/model.onnx", "c.onnx"], ["a/model.onnx", "b/model.onnx", "c.onnx"]),
        (["model.onnx", "a/model.onnx"], ["model.onnx", "a/model.onnx"]),
    ],
)
def test_names_are_as_short_as_they_can_be(paths: list[str], names: list[str]) -> None:
    assert distinct_names(paths) == names
