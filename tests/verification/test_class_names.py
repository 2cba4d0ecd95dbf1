"""A file's outputs mean the classes of the images that it is judged by."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from exporter.artifacts import Artifact, Cache
from exporter.config import DataConfig, VerifyConfig
from exporter.errors import GraphError
from exporter.graph.metadata import CLASSES as WRITTEN
from exporter.verification.class_names import CLASSES, check_class_names
from exporter.verification.side_by_side import compare_files
from tests.verification.linear_model import RIGHT, linear_model

NAMES = ("blue", "green", "red")


def named(path: Path, entry: str) -> Artifact:
    linear_model(path, RIGHT)
    model = onnx.load(path)
    helper.set_model_props(model, {CLASSES: entry})
    onnx.save(model, path)
    return Artifact.of(path)


def test_the_entry_is_the_one_that_is_written() -> None:
    assert CLASSES == WRITTEN


def test_the_same_names_in_the_same_order_pass(tmp_path: Path) -> None:
    check_class_names(named(tmp_path / "a.onnx", json.dumps(NAMES)), NAMES)
    with pytest.raises(GraphError):
        check_class_names(named(tmp_path / "a.onnx", json.dumps(NAMES[::-1])), NAMES)


def test_a_file_that_does_not_say_passes(tmp_path: Path) -> None:
    silent = linear_model(tmp_path / "a.onnx", RIGHT)
    check_class_names(silent, NAMES)
    check_class_names(silent, NAMES[::-1])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('["blue", "red", "green"]', "means 'red' by output 1, but the data calls that class 'gr"),
        ('["blue", "green"]', "tells 2 classes apart, but the data has 3"),
        ('{"blue": 0}', "has damaged class names"),
        ("[", "has damaged class names"),
        ("[" * 100_000, "has damaged class names"),
    ],
)
def test_other_names_are_refused_in_one_line(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(GraphError, match=message) as caught:
        check_class_names(named(tmp_path / "a.onnx", entry), NAMES)
    assert "\n" not in str(caught.value)


def test_compare_asks_before_it_measures(tmp_path: Path) -> None:
    digits = list("0123456789")
    weights = np.ones((3, 10), np.float32)
    for name, classes in (("right", digits), ("wrong", digits[::-1])):
        linear_model(tmp_path / f"{name}.onnx", weights, side=32)
        model = onnx.load(tmp_path / f"{name}.onnx")
        helper.set_model_props(model, {CLASSES: json.dumps(classes)})
        onnx.save(model, tmp_path / f"{name}.onnx")
    paths = [tmp_path / "right.onnx", tmp_path / "wrong.onnx"]
    cache = Cache(tmp_path / "cache")
    with pytest.raises(GraphError, match=r"wrong\.onnx means '9' by output 0"):
        compare_files(paths, DataConfig(), VerifyConfig(), cache)
    assert [run.name for run in cache.runs] == ["load"]
