"""ONNX Runtime's own format: the same bytes in every process, readable, with its operators."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from exporter.errors import GraphError
from exporter.graph.ort_format import type_names, with_sorted_type_names, write_ort
from tests.tiny_bundle import tiny_model

RAW = """
import sys
import onnxruntime as ort
options = ort.SessionOptions()
options.optimized_model_filepath = sys.argv[2]
options.add_session_config_entry("session.save_model_format", "ORT")
ort.InferenceSession(
    sys.argv[1], options, providers=["CPUExecutionProvider"],
    disabled_optimizers=["NchwcTransformer"],
)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("ort") / "model.onnx").path


def test_every_process_writes_the_same_bytes(source: Path, tmp_path: Path) -> None:
    """ONNX Runtime alone does not: four processes agree by chance in one case of hundreds."""
    raw = []
    for number in range(4):
        path = tmp_path / f"{number}.ort"
        subprocess.run([sys.executable, "-c", RAW, source, path], check=True)
        raw.append(path.read_bytes())
    assert len({with_sorted_type_names(data) for data in raw}) == 1
    write_ort(source, tmp_path / "ours.ort")
    assert (tmp_path / "ours.ort").read_bytes() == with_sorted_type_names(raw[0])


def test_only_the_order_of_the_type_names_changes(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "raw.ort"
    subprocess.run([sys.executable, "-c", RAW, source, path], check=True)
    raw = path.read_bytes()
    ours = with_sorted_type_names(raw)
    assert type_names(ours) == type_names(raw)
    assert b":Flatten:13" in type_names(ours)
    assert with_sorted_type_names(ours) == ours
    assert raw[-500:] == ours[-500:]


def test_it_says_what_the_onnx_file_says(source: Path, tmp_path: Path) -> None:
    operators = write_ort(source, tmp_path / "model.ort")
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
    expected, found = (
        ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": images})
        for path in (source, tmp_path / "model.ort")
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-4)
    assert operators.splitlines() == [
        "ai.onnx;1;GlobalAveragePool",
        "ai.onnx;13;DequantizeLinear,Flatten,MatMul,Transpose",
        "com.microsoft;1;FusedConv",
    ]


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no")
    with pytest.raises(GraphError, match=r"cannot convert .*bad\.onnx") as caught:
        write_ort(tmp_path / "bad.onnx", tmp_path / "bad.ort")
    assert "\n" not in str(caught.value)
