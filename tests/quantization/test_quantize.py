from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from calibration import Ranges
from exporter.artifacts import Artifact, Cache
from exporter.errors import CacheError, GraphError
from exporter.graph.inspect import inspect_file
from exporter.graph.limits import read_model
from exporter.graph.metadata import read_contract, read_metadata
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.graph.wiring import Wiring
from exporter.quantization.layers import layers_of
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.quantization.saturation import saturating_layers
from exporter.targets import Target, find_target
from tests.graph import networks
from tests.quantization.conftest import Calibrator

Exports = Callable[[str], OnnxModel]

CPU = find_target("cpu-int8")
VNNI = find_target("cpu-int8-vnni")
AVX2 = find_target("cpu-int8-avx2")
INT8_ERROR = 0.1
"""Largest change of a logit by 8-bit arithmetic, relative to the largest logit."""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", "Flatten:1 NhwcMaxPool:2 QGemm:2 QLinearConv:2"),
        ("residual", "Flatten:1 QGemm:1 QLinearAdd:1 QLinearAveragePool:1 QLinearConv:3"),
        ("adaptive", "Flatten:1 QGemm:1 QLinearAdd:1 QLinearConv:3 QLinearGlobalAveragePool:1"),
    ],
)
def test_everything_runs_on_integer_kernels(
    name: str, expected: str, tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports(name)

    int8 = quantize(tmp_path, VNNI, model, calibrated(model), "minmax")

    integer = dict(int8.coverage.integer)
    # Where the layout changes from channels-last to flat, and on CPUs without such kernels.
    integer.pop("Transpose", None)
    assert " ".join(f"{operator}:{count}" for operator, count in integer.items()) == expected
    assert int8.coverage.floating == {}
    assert (int8.parameters, int8.macs) == (model.parameters, model.macs)
    images = networks.pixels(64, seed=2)
    logits, exact = networks.run(int8.file.path, images), networks.run(model.file.path, images)
    assert 0 < np.abs(logits - exact).max() < INT8_ERROR * np.abs(exact).max()
    assert int8.file.path.stat().st_size < model.file.path.stat().st_size


def test_a_pool_in_front_reads_the_raw_bytes(tmp_path: Path, calibrated: Calibrator) -> None:
    side = networks.SIDE // 2 - 2
    module = torch.nn.Sequential(
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(3, 16, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(16 * side * side, len(networks.CLASSES)),
    )
    model = networks.exported(module.eval(), tmp_path / "float")

    int8 = quantize(tmp_path, CPU, model, calibrated(model), "minmax")

    assert int8.coverage.integer["NhwcMaxPool"] == 1
    assert int8.coverage.floating == {}


def test_raw_bytes_give_the_same_logits_as_float_pixels_to_the_bit(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("residual")
    int8 = quantize(tmp_path, CPU, model, calibrated(model), "minmax")
    images = networks.pixels(16, seed=3)

    from_bytes = networks.run(int8.file.path, images)
    from_floats = networks.run(
        with_float_input(onnx.load(int8.file.path)), networks.normalized(images), "pixels"
    )

    np.testing.assert_array_equal(from_bytes, from_floats)


def with_float_input(model: ModelProto) -> bytes:
    """Put the QuantizeLinear back that the raw bytes made superfluous."""
    nodes = [node for node in model.graph.node if node.op_type != "Transpose"]
    (reader,) = (node for node in nodes if "image_nchw" in node.input)
    quantize_pixels = helper.make_node(
        "QuantizeLinear", ["pixels", *reader.input[1:]], ["image_nchw"], "quantize_pixels"
    )
    graph = helper.make_graph(
        [quantize_pixels, *nodes],
        "float_input",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, None, None])],
        list(model.graph.output),
        list(model.graph.initializer),
    )
    opsets = [helper.make_opsetid("", 18)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    content: bytes = made.SerializeToString()
    return content


def test_logits_do_not_depend_on_the_batch(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("plain")
    int8 = quantize(tmp_path, CPU, model, calibrated(model), "minmax")
    images = networks.pixels(5, seed=4)

    batch = networks.run(int8.file.path, images)
    singles = [networks.run(int8.file.path, images[i : i + 1]) for i in range(5)]

    np.testing.assert_array_equal(np.concatenate(singles), batch)
    # Logits are float: no two of them need share one of 256 values.
    assert len(np.unique(networks.run(int8.file.path, networks.pixels(200, seed=5)))) > 512


def test_the_file_is_one_and_says_what_it_is(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("plain")
    ranges = calibrated(model)
    int8 = quantize(tmp_path, CPU, model, ranges, "minmax")

    shipped = read_model(int8.file.path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert [(entry.domain, entry.version) for entry in shipped.opset_import] == [("", 18)]
    assert shipped.ir_version == 8
    assert read_contract(shipped) == networks.CONTRACT
    metadata = {key: json.loads(text) for key, text in read_metadata(shipped).items()}
    assert metadata["digests"] == {"float_model": model.file.sha256, "ranges": ranges.sha256}
    assert set(metadata["tools"]) == {"onnx", "onnxruntime", "onnxscript", "torch"}
    assert metadata["quantization"] == {
        "target": "cpu-int8",
        "method": "minmax",
        "seven_bit_layers": list(int8.seven_bit_layers),
    }
    read = read_onnx_model(int8.file.path)
    assert (read.contract, read.parameters, read.macs) == (
        *(int8.contract, int8.parameters),
        int8.macs,
    )
    seen = inspect_file(int8.file.path)
    assert (seen.integer, seen.floating) == (int8.coverage.integer, int8.coverage.floating)


def largest_weights(int8: QuantizedModel) -> dict[str, int]:
    return {
        layer.name: int(np.abs(layer.rows.astype(int)).max())
        for layer in layers_of(onnx.load(int8.file.path))
    }


def half_empty(factory: type[networks.Plain] = networks.Plain) -> torch.nn.Module:
    """A network with two layers in which every second input has no weight: no pair, no sum."""
    module = networks.settled(factory)
    with torch.no_grad():
        module.get_parameter("conv2.weight")[:, 1::2] = 0
        module.get_parameter("hidden.weight")[:, 1::2] = 0
    return module


def test_seven_bits_where_a_layer_could_saturate(tmp_path: Path, calibrated: Calibrator) -> None:
    model = networks.exported(half_empty(), tmp_path / "float")

    by_target = {}
    for target in (CPU, VNNI, AVX2):
        out = tmp_path / target.name
        out.mkdir()
        by_target[target.name] = quantize(out, target, model, calibrated(model), "minmax")

    safe, full, narrow = by_target.values()
    assert safe.seven_bit_layers == ("conv1", "head")
    assert largest_weights(safe) == {"conv1": 64, "conv2": 127, "hidden": 127, "head": 64}
    assert saturating_layers(onnx.load(safe.file.path)) == ()
    assert full.seven_bit_layers == ()
    assert set(largest_weights(full).values()) == {127}
    assert saturating_layers(onnx.load(full.file.path)) == ("conv1", "head")
    assert narrow.seven_bit_layers == ("conv1", "conv2", "hidden", "head")
    assert set(largest_weights(narrow).values()) == {64}


def test_one_scale_per_layer_where_the_target_wants_it(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    target = replace(CPU, per_channel=False)
    model = exports("adaptive")

    int8 = quantize(tmp_path, target, model, calibrated(model), "minmax")

    shipped = onnx.load(int8.file.path)
    scales = [t for t in shipped.graph.initializer if t.name.endswith(".weight_scale")]
    assert [list(tensor.dims) for tensor in scales] == [[]] * 4
    assert int8.coverage.floating == {}


def test_a_dead_channel_keeps_its_bias(tmp_path: Path, calibrated: Calibrator) -> None:
    module = networks.network("plain")
    with torch.no_grad():
        module.get_parameter("conv2.weight")[5] = 0
        module.get_parameter("hidden.weight")[:] = 0
    model = networks.exported(module, tmp_path / "float")
    expected = biases(onnx.load(model.file.path))

    int8 = quantize(tmp_path, VNNI, model, calibrated(model), "minmax")

    found = biases(onnx.load(int8.file.path))
    assert abs(expected["conv2"][5]) > 1e-2
    for layer in ("conv2", "hidden"):
        np.testing.assert_allclose(found[layer], expected[layer], rtol=0, atol=2e-4)
    weights = {layer.name: layer.rows for layer in layers_of(onnx.load(int8.file.path))}
    assert not weights["conv2"][5].any()
    assert weights["conv2"][4].any()


def biases(model: ModelProto) -> dict[str, NDArray[np.float64]]:
    """Return the biases of every layer, dequantized where they are integers."""
    wiring = Wiring.of(model.graph)
    found = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            producer = wiring.producer.get(node.input[2])
            names = producer.input[:2] if producer else [node.input[2]]
            arrays = [numpy_helper.to_array(wiring.constants[name]) for name in names]
            found[node.name] = np.prod([array.astype(np.float64) for array in arrays], axis=0)
    return found


def test_hardswish_runs_on_integer_kernels(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("hardswish")

    int8 = quantize(tmp_path, CPU, model, calibrated(model), "minmax")

    assert int8.coverage.floating == {}
    # A sum and a product for each of three activations, and the residual sum.
    assert int8.coverage.integer["QLinearAdd"] == 4
    assert int8.coverage.integer["QLinearMul"] == 3
    images = networks.pixels(64, seed=2)
    logits, exact = networks.run(int8.file.path, images), networks.run(model.file.path, images)
    assert 0 < np.abs(logits - exact).max() < INT8_ERROR * np.abs(exact).max()


def test_ranges_of_another_model_are_refused(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    with pytest.raises(GraphError, match="were measured on the model"):
        quantize(tmp_path, CPU, exports("plain"), calibrated(exports("residual")), "minmax")


def test_ranges_that_miss_a_tensor_are_refused(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("plain")
    ranges = Ranges.from_json(calibrated(model).path.read_text())
    fewer = {name: value for name, value in ranges.by_tensor.items() if name != "maxpool_1"}
    (tmp_path / "ranges.json").write_text(replace(ranges, by_tensor=fewer).to_json())

    with pytest.raises(GraphError, match=r"miss maxpool_1\. Calibrate the model again"):
        quantize(tmp_path, CPU, model, Artifact.of(tmp_path / "ranges.json"), "minmax")


@pytest.mark.parametrize("content", [b"{}", b"not json", b"\xff\xfe"])
def test_damaged_ranges_are_refused(content: bytes, tmp_path: Path, exports: Exports) -> None:
    (tmp_path / "ranges.json").write_bytes(content)

    with pytest.raises(GraphError, match=r"ranges\.json"):
        quantize(tmp_path, CPU, exports("plain"), Artifact.of(tmp_path / "ranges.json"), "minmax")


def test_a_model_file_that_has_changed_is_noticed(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("plain")
    moved = tmp_path / "moved.onnx"
    moved.write_bytes(model.file.path.read_bytes() + b" ")
    changed = replace(model, file=Artifact(path=moved, sha256=model.file.sha256))

    with pytest.raises(CacheError, match="has changed on disk"):
        quantize(tmp_path, CPU, changed, calibrated(model), "minmax")


def test_the_result_lives_in_the_cache(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    cache = Cache(tmp_path)
    model = exports("plain")

    first = cache.run(quantize, CPU, model, calibrated(model), "minmax")
    again = cache.run(quantize, CPU, replace(model, parity=0.5), calibrated(model), "minmax")
    other = cache.run(quantize, VNNI, model, calibrated(model), "minmax")

    assert again == first
    assert other.file.sha256 != first.file.sha256
    assert isinstance(first.coverage.integer["QLinearConv"], int)


SCRIPT = """
import sys
from pathlib import Path
from exporter.artifacts import Artifact
from exporter.quantization.quantize import quantize
from exporter.targets import find_target
from tests.graph import networks

out = Path(sys.argv[1])
model = networks.exported(networks.network("residual"), out / "float")
ranges = Artifact.of(Path(sys.argv[2]))
int8 = quantize(out, find_target("cpu-int8"), model, ranges, "minmax")
print(model.file.sha256, int8.file.sha256)
"""


def test_another_process_in_another_folder_writes_the_same_bytes(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("residual")
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    here = quantize(tmp_path / "here", CPU, model, calibrated(model), "minmax")

    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "elsewhere"), str(calibrated(model).path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "7"},
    )

    assert done.stdout.split() == [model.file.sha256, here.file.sha256]


def test_targets_are_all_served(tmp_path: Path, exports: Exports, calibrated: Calibrator) -> None:
    from exporter.targets import TARGETS

    model = exports("adaptive")
    found: dict[str, Target] = dict(TARGETS)
    for name, target in found.items():
        (tmp_path / name).mkdir()
        int8 = quantize(tmp_path / name, target, model, calibrated(model), "minmax")
        risky = saturating_layers(onnx.load(int8.file.path))
        assert (risky == ()) == (target.seven_bit_weights != "never"), name
