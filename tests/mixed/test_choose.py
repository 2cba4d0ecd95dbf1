"""``--float-layers`` by names, by the commands, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from exporter.artifacts import Cache
from exporter.cli import app
from exporter.config import DataConfig, QuantizeConfig
from exporter.data.load import load_splits
from exporter.errors import ConfigError
from exporter.graph.limits import read_model
from exporter.mixed.choose import check_float_layers
from exporter.option import check_limits
from exporter.quantization.layers import layers_of
from exporter.targets import find_target
from tests.intake.files import fitted_classifier, written

DATA = ["--test-share", "0.5", "--calibration-images", "64", "--validation-share", "0.1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("floats")
    config = DataConfig(size="12x12", test_share=0.5, calibration_images=64, validation_share=0.1)
    data = load_splits(Cache(folder / "cache"), config)
    written(fitted_classifier(data), folder / "model.onnx")
    return folder


def run(folder: Path, name: str, *arguments: str) -> Result:
    words = [word.replace("@", f"{folder}/") for word in arguments]
    return CliRunner().invoke(app, [name, *words, "--cache", f"{folder}/cache", "--json"])


def layer_names(path: Path) -> list[str]:
    return [layer.name for layer in layers_of(read_model(path))]


@pytest.mark.parametrize("more", [[], ["--recover", "auto", "--recover-drop", "100"]])
def test_named_layers_stay_float_whatever_else_is_done(folder: Path, more: list[str]) -> None:
    quantizing = ("quantize", "@model.onnx", *DATA, "--out", "@int8.onnx", "--method", "minmax")
    plain = run(folder, *quantizing)
    assert plain.exit_code == 0, plain.stderr
    assert "float_layers" not in json.loads(plain.stdout)
    first, *rest = layer_names(folder / "int8.onnx")

    found = run(folder, *quantizing, "--float-layers", first, *more)

    assert found.exit_code == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["float_layers"] == [first]
    assert document["float_layers_search"]["layers"] == [first]
    assert document["executed_in_float"]["Conv"] == 1
    kinds = {
        layer.name: layer.rows.dtype.kind for layer in layers_of(read_model(folder / "int8.onnx"))
    }
    assert kinds == {first: "f"} | dict.fromkeys(rest, "i")


def test_an_unknown_layer_is_one_line_that_names_the_known_ones(folder: Path) -> None:
    out = ["--out", "@other.onnx", "--method", "minmax"]
    found = run(folder, "quantize", "@model.onnx", *DATA, *out, "--float-layers", "stemm")
    assert found.exit_code == 2
    error = found.stderr.splitlines()[-1]
    assert "There is no layer 'stemm' to leave in float. The layers with weights are " in error
    assert not (folder / "other.onnx").exists()


def test_ranges_of_before_go_with_names_alone(folder: Path) -> None:
    (folder / "ranges.json").write_text("{}")
    given = ["quantize", "@model.onnx", "--ranges", "@ranges.json", "--out", "@other.onnx"]
    found = run(folder, *given, "--float-layers", "slow")
    assert found.exit_code == 2
    assert "looks at images, which --ranges" in found.stderr or "goes by times" in found.stderr


@pytest.mark.parametrize("asked", ["", "a,,b", "slow,a", "none, a", " "])
def test_names_are_whole_and_stand_alone(asked: str) -> None:
    with pytest.raises(ConfigError, match=r"--float-layers is .* but must be none, slow, or names"):
        check_limits(QuantizeConfig(float_layers=asked))


def test_names_are_read_once_each_in_their_order() -> None:
    assert QuantizeConfig(float_layers="b, a,b").named_layers == ("b", "a")
    assert QuantizeConfig(float_layers="slow").named_layers == ()
    assert QuantizeConfig().named_layers == ()


def test_slow_layers_are_found_only_for_the_cpu_that_measures() -> None:
    slow, one = QuantizeConfig(float_layers="slow"), QuantizeConfig(float_layers="stem")
    with pytest.raises(ConfigError, match=r"goes by times on this machine .*web-int8 is for wasm"):
        check_float_layers(slow, find_target("web-int8"))
    check_float_layers(one, find_target("web-int8"))
    for config in (slow, one):
        with pytest.raises(ConfigError, match="cpu-fp32 ships a float one"):
            check_float_layers(config, find_target("cpu-fp32"))
    check_float_layers(QuantizeConfig(), find_target("cpu-fp32"))
