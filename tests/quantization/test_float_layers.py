from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from exporter.contract import INPUT_NAME, OUTPUT_NAME
from exporter.errors import CoverageError, GraphError
from exporter.graph.limits import read_model
from exporter.graph.metadata import read_metadata
from exporter.graph.model import OnnxModel
from exporter.quantization import quantize as quantizing
from exporter.quantization.layers import layers_of
from exporter.quantization.quantize import QuantizedModel, quantize, quantized_core
from exporter.targets import find_target
from tests.graph import networks
from tests.quantization.conftest import Calibrator

Exports = Callable[[str], OnnxModel]

CPU = find_target("cpu-int8")
AVX2 = find_target("cpu-int8-avx2")


class Depthwise(nn.Module):
    """A stem and a depthwise separable block, its channels of very different size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 32, 1)
        self.head = nn.Linear(32, len(networks.CLASSES))
        with torch.no_grad():
            self.depthwise.weight *= torch.logspace(0, -3, 16).reshape(-1, 1, 1, 1)
            self.pointwise.weight *= torch.logspace(0, 3, 16).reshape(1, -1, 1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        features = functional.relu6(self.stem(pixels))
        features = functional.relu6(self.depthwise(features))
        features = functional.relu6(self.pointwise(features))
        logits: Tensor = self.head(functional.adaptive_avg_pool2d(features, 1).flatten(1))
        return logits


class Recurrent(nn.Module):
    """A convolution that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.again = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16 * networks.SIDE**2, len(networks.CLASSES))

    def forward(self, pixels: Tensor) -> Tensor:
        features = functional.relu(self.again(functional.relu(self.stem(pixels))))
        logits: Tensor = self.head(functional.relu(self.again(features)).flatten(1))
        return logits


@pytest.fixture(scope="module")
def depthwise(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    folder = tmp_path_factory.mktemp("depthwise")
    return networks.exported(networks.settled(Depthwise), folder)


def logits(model: QuantizedModel, *, disabled: tuple[str, ...] = ()) -> np.ndarray:
    session = ort.InferenceSession(
        str(model.file.path),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=list(disabled),
    )
    return np.asarray(session.run([OUTPUT_NAME], {INPUT_NAME: networks.pixels(8, seed=4)})[0])


@pytest.mark.parametrize(
    ("name", "floats"),
    [
        ("plain", ("conv1",)),
        ("plain", ("conv2", "hidden")),
        ("plain", ("conv1", "conv2", "hidden", "head")),
        ("residual", ("conv1",)),
        ("residual", ("stem", "conv2")),
        ("adaptive", ("head",)),
    ],
)
def test_these_layers_and_no_others_are_executed_in_float(
    name: str, floats: tuple[str, ...], tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports(name)
    every = [layer.name for layer in layers_of(read_model(model.file.path))]

    int8 = quantize(tmp_path, CPU, model, calibrated(model), "minmax", floats)

    kernels = int8.coverage.integer.get("QLinearConv", 0) + int8.coverage.integer.get("QGemm", 0)
    assert kernels == len(every) - len(floats)
    assert int8.float_layers == floats
    written = {layer.name: layer for layer in layers_of(read_model(int8.file.path))}
    assert {name for name, layer in written.items() if layer.rows.dtype == np.float32} == set(
        floats
    )
    described = json.loads(read_metadata(read_model(int8.file.path))["quantization"])
    assert tuple(described["float_layers"]) == floats


def test_with_default_options_a_float_layer_keeps_its_weights(
    tmp_path: Path, depthwise: OnnxModel, calibrated: Calibrator
) -> None:
    int8 = quantize(tmp_path, CPU, depthwise, calibrated(depthwise), "minmax", ("depthwise",))

    # The optimizer that rounds the weights of float layers does nothing here.
    np.testing.assert_array_equal(logits(int8), logits(int8, disabled=("WeightBiasQuantization",)))


def test_leaving_a_layer_out_is_not_enough_and_is_noticed(
    tmp_path: Path,
    depthwise: OnnxModel,
    calibrated: Calibrator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quantizing, "keep_float", lambda *_: None)

    with pytest.raises(CoverageError, match="Not executed in float as they should be: depthwise"):
        quantize(tmp_path, CPU, depthwise, calibrated(depthwise), "minmax", ("depthwise",))


def test_float_layers_have_no_seven_bits(
    tmp_path: Path, depthwise: OnnxModel, calibrated: Calibrator
) -> None:
    int8 = quantize(tmp_path, AVX2, depthwise, calibrated(depthwise), "minmax", ("depthwise",))

    assert int8.seven_bit_layers == ("stem", "pointwise", "head")


def test_weights_that_others_share_are_copied(tmp_path: Path, calibrated: Calibrator) -> None:
    model = networks.exported(networks.settled(Recurrent), tmp_path / "float")
    first, second = (
        layer.name for layer in layers_of(read_model(model.file.path)) if "again" in layer.weight
    )

    int8 = quantize(tmp_path, CPU, model, calibrated(model), "minmax", (second,))

    rows = {layer.name: layer.rows for layer in layers_of(read_model(int8.file.path))}
    assert rows[first].dtype == np.int8
    assert rows[second].dtype == np.float32


def test_the_bytes_are_the_same_without_float_layers(
    tmp_path: Path, depthwise: OnnxModel, calibrated: Calibrator
) -> None:
    ranges = calibrated(depthwise)

    plain = quantize(tmp_path, CPU, depthwise, ranges, "minmax")
    empty = quantize(tmp_path, CPU, depthwise, ranges, "minmax", ())

    assert plain.file.sha256 == empty.file.sha256
    assert "float_layers" not in read_metadata(read_model(plain.file.path))["quantization"]


def test_an_unknown_name_is_one_clear_error(depthwise: OnnxModel, calibrated: Calibrator) -> None:
    with pytest.raises(GraphError, match=r"no layer 'stemm'.*stem, depthwise, pointwise, head\.$"):
        quantized_core(CPU, depthwise, calibrated(depthwise), ("stemm",))
