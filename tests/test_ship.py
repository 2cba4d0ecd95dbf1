"""A finished model in the form of its target: other bytes, the same answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from calibration import ArrayStream, collect_ranges
from exporter import ship as module
from exporter.artifacts import Artifact, Cache
from exporter.errors import CacheError, GraphError
from exporter.graph.execution import executed_operators
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.graph.optimize_file import open_and_write
from exporter.quantization.quantize import quantize
from exporter.ship import ship, shipped_for
from exporter.targets import TARGETS, Target
from tests.graph import networks
from tests.tiny_bundle import CONTRACT, tiny_model


@pytest.fixture
def model(tmp_path: Path) -> OnnxModel:
    file = tiny_model(tmp_path / "tiny.onnx")
    return OnnxModel(file=file, contract=CONTRACT, parameters=0, macs=0)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_form_changes_and_the_answers_do_not(
    tmp_path: Path, model: OnnxModel, target: Target
) -> None:
    cache = Cache(tmp_path / "cache")
    shipped = shipped_for(cache, target, model)
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
    expected = ort.InferenceSession(model.file.path).run(None, {"image": images})[0]
    session = ort.InferenceSession(shipped.file.path)
    found = np.concatenate([session.run(None, {"image": image[None]})[0] for image in images])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert shipped.difference <= module.TOLERANCE
    assert set(shipped.files) == {name for name in target.files if name[0] in "mr"}
    assert [run.name for run in cache.runs] in ([], ["ship"])
    if not cache.runs:
        assert shipped.file == shipped.source == model.file


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_same_model_gives_the_same_bytes(
    tmp_path: Path, model: OnnxModel, target: Target
) -> None:
    digests = [
        {name: file.sha256 for name, file in shipped_for(cache, target, model).files.items()}
        for cache in (Cache(tmp_path / "one"), Cache(tmp_path / "two"))
    ]
    assert digests[0] == digests[1]


def test_a_file_that_answers_otherwise_is_not_shipped(
    tmp_path: Path, model: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(graph: onnx.ModelProto) -> None:
        dense = next(tensor for tensor in graph.graph.initializer if tensor.name == "dense")
        dense.CopyFrom(numpy_helper.from_array(1.01 * numpy_helper.to_array(dense), "dense"))

    monkeypatch.setattr(module, "make_compact", damage)
    with pytest.raises(GraphError, match=r"differ from those of .*tiny\.onnx by 1\.0e-02"):
        ship(tmp_path, model.file, CONTRACT, fixed_batch=True, compact=True, file_format="onnx")


def test_an_int8_file_keeps_its_integer_kernels(
    tmp_path: Path, exports: Callable[[str], OnnxModel]
) -> None:
    """However it is packed up, ONNX Runtime executes the same operators as before."""
    model = exports("residual")
    stream = ArrayStream(samples=networks.pixels(32), input_name="image", batch_size=16)
    ranges = collect_ranges(model.file.path, stream, ["minmax"])["minmax"]
    (tmp_path / "ranges.json").write_text(ranges.to_json())
    target = TARGETS["web-int8"]
    int8 = quantize(tmp_path, target, model, Artifact.of(tmp_path / "ranges.json"), "minmax")
    shipped = shipped_for(Cache(tmp_path / "cache"), target, int8)
    counts = []
    for path in (int8.file.path, shipped.file.path):
        open_and_write(str(path), str(tmp_path / "optimized.onnx"))
        executed = executed_operators(onnx.load(tmp_path / "optimized.onnx"), onnx.load(path))
        counts.append(sorted((entry.operator, entry.integer) for entry in executed))
    assert counts[0] == counts[1]
    assert any(integer for _, integer in counts[0])
    assert shipped.difference == 0
    assert shipped.file.path.stat().st_size < int8.file.path.stat().st_size
    contract = read_onnx_model(shipped.file.path).contract
    assert contract == model.contract


def test_a_changed_file_is_found(tmp_path: Path, model: OnnxModel) -> None:
    other = Artifact(path=model.file.path, sha256="0" * 64)
    with pytest.raises(CacheError, match="has changed on disk"):
        ship(tmp_path, other, CONTRACT, fixed_batch=True, compact=True, file_format="onnx")
