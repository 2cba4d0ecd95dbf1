"""Ratios and similarities against sums in numpy, on files that are a formula each."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporter.agreement.measure import Agreement, decibels, measure_agreement
from exporter.artifacts import Artifact, load_result, save_result
from exporter.data.splits import Split
from exporter.errors import DataError, GraphError

SIDE = 5
IMAGES = 37
"""No multiple of the batch."""


def split(folder: Path, count: int = IMAGES) -> Split:
    generator = np.random.default_rng(3)
    images = generator.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", np.zeros(count, np.int64))
    return Split(
        name="test",
        images=Artifact.of(folder / "images.npy"),
        labels=Artifact.of(folder / "labels.npy"),
        count=count,
    )


def file(path: Path, gains: tuple[float, float, float], offset: float = -100.0) -> Artifact:
    """Write ``planes = gains * image + offset``, channels first, and their mean per image."""
    constants = {
        "gains": np.array(gains, np.float32).reshape(1, 3, 1, 1),
        "offset": np.array(offset, np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
            helper.make_node("Mul", ["t", "gains"], ["m"]),
            helper.make_node("Add", ["m", "offset"], ["planes"]),
            helper.make_node("GlobalAveragePool", ["planes"], ["p"]),
            helper.make_node("Flatten", ["p"], ["mean"]),
        ],
        "formula",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("planes", TensorProto.FLOAT, ["N", 3, SIDE, SIDE]),
            helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["N", 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return Artifact.of(path)


def outputs(model: Artifact, data: Split) -> list[np.ndarray]:
    session = ort.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, {"image": np.load(data.images.path)})
    return found


def test_all_figures_are_those_of_sums_over_everything(tmp_path: Path) -> None:
    data = split(tmp_path)
    before = file(tmp_path / "a.onnx", (1.0, 0.8, 0.9))
    after = file(tmp_path / "b.onnx", (0.9, 0.85, 0.9), offset=-97.0)

    found = measure_agreement(tmp_path, before, after, data)

    assert found.images == IMAGES
    assert [output.name for output in found.outputs] == ["planes", "mean"]
    assert [output.shape for output in found.outputs] == [(3, SIDE, SIDE), (3,)]
    for output, x, y in zip(
        found.outputs, outputs(before, data), outputs(after, data), strict=True
    ):
        x, y = x.astype(np.float64), y.astype(np.float64)
        assert output.sqnr_db == pytest.approx(
            20 * np.log10(np.linalg.norm(x) / np.linalg.norm(x - y))
        )
        rows = [(a.ravel(), b.ravel()) for a, b in zip(x, y, strict=True)]
        cosines = [np.dot(a, b) / np.sqrt((a @ a) * (b @ b)) for a, b in rows]
        assert output.cosine == pytest.approx(np.mean(cosines))
        assert output.worst_cosine == pytest.approx(np.min(cosines))
    planes, mean = found.outputs
    x, y = outputs(before, data)[0], outputs(after, data)[0]
    assert planes.same_argmax == pytest.approx(np.mean(x.argmax(1) == y.argmax(1)))
    assert 0.5 < (planes.same_argmax or 0) < 1
    assert mean.same_argmax is None
    assert found.worst_sqnr_db == min(planes.sqnr_db, mean.sqnr_db)


def test_a_file_agrees_with_itself_without_end_and_that_can_be_kept(tmp_path: Path) -> None:
    model = file(tmp_path / "a.onnx", (1.0, 1.0, 1.0))
    found = measure_agreement(tmp_path, model, model, split(tmp_path))
    assert found.worst_sqnr_db == math.inf
    assert found.outputs[0].worst_cosine == pytest.approx(1)
    assert found.outputs[0].same_argmax == 1
    save_result(tmp_path, found)
    assert load_result(tmp_path, Agreement) == found


def test_decibels() -> None:
    assert decibels(100.0, 1.0) == pytest.approx(20)
    assert decibels(1.0, 10.0) == pytest.approx(-10)
    assert decibels(0.0, 0.0) == math.inf
    assert decibels(0.0, 1.0) == -math.inf


def test_what_is_not_finite_or_not_there_is_refused(tmp_path: Path) -> None:
    good = file(tmp_path / "a.onnx", (1.0, 1.0, 1.0))
    broken = file(tmp_path / "b.onnx", (1.0, float("inf"), 1.0))
    with pytest.raises(GraphError, match="'planes' has values that are not finite"):
        measure_agreement(tmp_path, good, broken, split(tmp_path))
    with pytest.raises(DataError, match="The test split is empty"):
        measure_agreement(tmp_path, good, good, split(tmp_path, 0))
