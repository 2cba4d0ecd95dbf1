from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exporter.errors import GraphError
from exporter.graph.limits import read_model
from exporter.graph.metadata import read_metadata
from exporter.graph.model import OnnxModel
from exporter.mixed.padded_stem import pad_stem, stem_of
from exporter.quantization.layers import layers_of
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.targets import find_target
from tests.graph import networks
from tests.quantization.conftest import Calibrator, calibrated

__all__ = ["calibrated"]  # a fixture

Exports = Callable[[str], OnnxModel]
CPU = find_target("cpu-int8")
VNNI = find_target("cpu-int8-vnni")


def logits(model: QuantizedModel) -> np.ndarray:
    return networks.run(model.file.path, networks.pixels(16, seed=3))


def test_the_outputs_are_the_same_to_the_bit(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("plain")
    int8 = quantize(tmp_path, CPU, model, calibrated(model), "minmax")
    (tmp_path / "padded").mkdir()

    padded = pad_stem(tmp_path / "padded", CPU, int8)

    np.testing.assert_array_equal(logits(padded), logits(int8))
    first, *rest = layers_of(read_model(padded.file.path))
    before, *others = layers_of(read_model(int8.file.path))
    assert first.name == "conv1"
    assert first.rows.shape[1] * 3 == before.rows.shape[1] * 4
    assert not first.rows[:, 3::4].any()
    assert [layer.rows.shape for layer in rest] == [layer.rows.shape for layer in others]
    assert padded.parameters - int8.parameters == first.rows.size - before.rows.size
    assert padded.coverage.integer == {**int8.coverage.integer, "Pad": 1}
    described = json.loads(read_metadata(read_model(padded.file.path))["quantization"])
    assert described["padded_stem"] == "conv1"
    assert described["method"] == "minmax"


def test_only_an_integer_stem_with_three_inputs_is_padded(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("plain")
    floating = quantize(tmp_path, CPU, model, calibrated(model), "minmax", ("conv1",))
    assert stem_of(read_model(floating.file.path)) is None
    with pytest.raises(GraphError, match="not read by one integer convolution with 3 inputs"):
        pad_stem(tmp_path, CPU, floating)

    int8 = quantize(tmp_path, CPU, model, calibrated(model), "minmax")
    padded = pad_stem(tmp_path, CPU, int8)
    with pytest.raises(GraphError, match="not read by one integer convolution with 3 inputs"):
        pad_stem(tmp_path, CPU, padded)


def test_a_stem_that_could_saturate_is_not_padded_where_that_counts(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("plain")
    full = quantize(tmp_path, VNNI, model, calibrated(model), "minmax")
    assert full.seven_bit_layers == ()
    pad_stem(tmp_path, VNNI, full)
    full = quantize(tmp_path, VNNI, model, calibrated(model), "minmax")
    with pytest.raises(GraphError, match="conv1 could saturate on CPUs without VNNI"):
        pad_stem(tmp_path, CPU, full)
