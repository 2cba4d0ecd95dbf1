from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from calibration import METHODS, Ranges
from exporter.artifacts import Artifact, Cache, sha256_of
from exporter.config import CalibrationConfig
from exporter.contract import InputContract
from exporter.data.splits import Split
from exporter.errors import ConfigError, DataError, GraphError
from exporter.graph.model import OnnxModel
from exporter.progress import Advance, shown_on
from exporter.quantization.calibrate import Calibrated, calibrate
from tests.calibration import nets

IMAGES = 21


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    return onnx_model(nets.raw_bytes(nets.chain()), tmp_path / "model.onnx")


@pytest.fixture
def data(tmp_path: Path) -> Split:
    return split(tmp_path, IMAGES)


def onnx_model(proto: onnx.ModelProto, path: Path) -> OnnxModel:
    contract = InputContract(height=8, width=8, classes=("a", "b", "c", "d"))
    file = Artifact.of(nets.saved(proto, path))
    return OnnxModel(file=file, contract=contract, parameters=1, macs=1, parity=0.0)


def split(folder: Path, count: int, side: int = 8) -> Split:
    np.save(folder / "images.npy", nets.images(max(count, 1))[:count, :side])
    np.save(folder / "labels.npy", np.zeros(count, np.int64))
    return Split(
        name="calibration",
        images=Artifact.of(folder / "images.npy"),
        labels=Artifact.of(folder / "labels.npy"),
        count=count,
    )


def test_auto_writes_one_file_per_method_for_this_model(
    tmp_path: Path, model: OnnxModel, data: Split
) -> None:
    result = calibrate(tmp_path, CalibrationConfig(), model, data)

    assert result.images == IMAGES
    assert list(result.by_method) == list(METHODS)
    for method, artifact in result.by_method.items():
        assert artifact.path == tmp_path / f"{method}.json"
        ranges = Ranges.from_json(artifact.checked().read_text())
        assert ranges.method == method
        assert ranges.samples == IMAGES
        ranges.check_model(model.file.sha256)
        assert {"normalized", "logits"} <= ranges.by_tensor.keys()


def test_one_method_alone_gives_what_auto_gives(
    tmp_path: Path, model: OnnxModel, data: Split
) -> None:
    (tmp_path / "alone").mkdir()
    every = calibrate(tmp_path, CalibrationConfig(), model, data)

    for method in METHODS:
        alone = calibrate(tmp_path / "alone", CalibrationConfig(method=method), model, data)
        assert list(alone.by_method) == [method]
        assert alone.by_method[method].sha256 == every.by_method[method].sha256


def test_the_input_range_is_that_of_the_normalised_bytes(
    tmp_path: Path, model: OnnxModel, data: Split
) -> None:
    config = CalibrationConfig(method="minmax")
    file = calibrate(tmp_path, config, model, data).by_method["minmax"].path

    assert json.loads(file.read_text())["ranges"]["normalized"] == [-128 / 64, 127 / 64]


def test_the_batch_size_changes_no_minimum_of_a_convolution(
    tmp_path: Path, model: OnnxModel, data: Split
) -> None:
    found = []
    for batch in (1, 8, 64):
        config = CalibrationConfig(method="minmax", calibration_batch=batch)
        file = calibrate(tmp_path, config, model, data).by_method["minmax"].path
        ranges = json.loads(file.read_text())["ranges"]
        found.append({name: ranges[name] for name in ("normalized", "conv0", "relu4")})

    assert found[0] == found[1] == found[2]


def test_cached_result_is_loaded_with_its_files(
    tmp_path: Path, model: OnnxModel, data: Split
) -> None:
    cache = Cache(tmp_path / "cache")
    first = cache.run(calibrate, CalibrationConfig(), model, data)
    second = cache.run(calibrate, CalibrationConfig(), model, data)

    assert first == second
    assert isinstance(second, Calibrated)
    assert sha256_of(second.by_method["mse"].path) == second.by_method["mse"].sha256


@pytest.mark.parametrize(("method", "passes"), [("minmax", 1), ("mse", 2), ("auto", 2)])
def test_progress_counts_every_image_of_every_pass(
    tmp_path: Path, model: OnnxModel, data: Split, method: str, passes: int
) -> None:
    seen = Recorder()
    with shown_on(seen):
        calibrate(tmp_path, CalibrationConfig(method=method, calibration_batch=8), model, data)

    assert seen.total == IMAGES * passes
    assert seen.amounts == [8, 8, 5] * passes


class Recorder:
    """A display that remembers what it was told."""

    def __init__(self) -> None:
        self.total = 0.0
        self.amounts: list[float] = []

    @contextmanager
    def task(self, description: str, total: float) -> Iterator[Advance]:
        self.total = total
        yield lambda amount, note: self.amounts.append(amount)

    def message(self, text: str) -> None:
        raise AssertionError(f"unexpected message: {text}")


def test_unknown_method_is_refused_with_the_known_ones(
    tmp_path: Path, model: OnnxModel, data: Split
) -> None:
    with pytest.raises(ConfigError) as caught:
        calibrate(tmp_path, CalibrationConfig(method="median"), model, data)

    for known in ("median", *METHODS, "auto"):
        assert known in str(caught.value)


def test_no_images_are_a_data_error(tmp_path: Path, model: OnnxModel) -> None:
    with pytest.raises(DataError, match="calibration"):
        calibrate(tmp_path, CalibrationConfig(), model, split(tmp_path, 0))


def test_images_of_another_size_are_a_graph_error(tmp_path: Path, model: OnnxModel) -> None:
    with pytest.raises(GraphError, match="image"):
        calibrate(tmp_path, CalibrationConfig(), model, split(tmp_path, 4, side=4))


def test_weights_that_are_nan_are_a_graph_error_that_names_the_tensor(
    tmp_path: Path, data: Split
) -> None:
    proto = nets.raw_bytes(nets.chain())
    broken = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    broken[0, 0, 0, 0] = np.nan
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(broken, "w0"))

    with pytest.raises(GraphError, match="'conv0'"):
        calibrate(tmp_path, CalibrationConfig(), onnx_model(proto, tmp_path / "nan.onnx"), data)
