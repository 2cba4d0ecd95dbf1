"""What is no float network, or needs more than itself, is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from exporter.errors import GraphError
from exporter.graph import limits
from exporter.intake.read import files_of, opset_of, read_float_model
from tests.intake.files import SIDE, classifier, difference, image_input, run, written


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def refused(path: Path) -> str:
    with pytest.raises(GraphError) as caught:
        read_float_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_weights_listed_as_inputs_are_weights(path: Path) -> None:
    model = read_float_model(written(classifier(listed=True), path))
    assert [info.name for info in model.graph.input] == ["data"]
    assert model.ir_version >= 4
    assert opset_of(model) == 7


@pytest.mark.parametrize(
    ("nodes", "domain", "message"),
    [
        (
            [helper.make_node("DynamicQuantizeLinear", ["data"], ["planes", "s", "z"])],
            "",
            "already quantized (DynamicQuantizeLinear",
        ),
        (
            [helper.make_node("FusedConv", ["data", "w0"], ["planes"], domain="com.microsoft")],
            "com.microsoft",
            "com.microsoft.FusedConv, which only ONNX Runtime knows",
        ),
        (
            [helper.make_node("Magic", ["data"], ["planes"], domain="org.custom")],
            "org.custom",
            "custom operator org.custom.Magic",
        ),
    ],
)
def test_operators_that_are_refused(
    path: Path, nodes: list[onnx.NodeProto], domain: str, message: str
) -> None:
    model = classifier(opset=13)
    model.graph.node.extend(nodes)
    if domain:
        model.opset_import.add(domain=domain, version=1)
        model.graph.initializer.append(numpy_helper.from_array(np.zeros((3, 3, 1, 1), "f"), "w0"))
    assert message in refused(written(model, path))


def test_integer_weights_are_those_of_a_quantized_file(path: Path) -> None:
    model = classifier(opset=13)
    w1 = next(tensor for tensor in model.graph.initializer if tensor.name == "w1")
    w1.CopyFrom(numpy_helper.from_array(np.ones((8, 3, 3, 3), np.int8), "w1_quantized"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.1, np.float32), "w1_scale"))
    model.graph.node.insert(
        0, helper.make_node("DequantizeLinear", ["w1_quantized", "w1_scale"], ["w1"], "dq")
    )
    assert "is already quantized (DequantizeLinear 'dq')" in refused(written(model, path))


def test_what_limits_refuse(path: Path) -> None:
    loop = helper.make_graph([], "body", [], [])
    model = classifier(opset=13)
    model.graph.node.append(helper.make_node("Loop", ["", ""], [], "again", body=loop))
    assert "control flow" in refused(written(model, path))
    function = helper.make_function(
        "own", "F", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])],
        [helper.make_opsetid("", 13)],
    )  # fmt: skip
    model = classifier(opset=13)
    model.functions.append(function)
    assert "functions of its own" in refused(written(model, path))


def test_files_that_are_no_network(path: Path) -> None:
    assert "No such file" in refused(path)
    path.write_bytes(b"PK\x03\x04 this is a zip file")
    assert "not an ONNX file" in refused(path)
    content = classifier().SerializeToString()
    path.write_bytes(content[: len(content) // 2])
    assert "not an ONNX file" in refused(path)


def test_opset_6_is_too_old(path: Path) -> None:
    model = classifier()
    model.opset_import[0].version = 6
    for node in model.graph.node:
        if node.op_type == "Gemm":
            node.attribute.add(name="broadcast", type=onnx.AttributeProto.INT, i=1)
    assert "has opset 6, but 7 is the oldest" in refused(written(model, path))


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_precisions_become_single(path: Path, kind: int) -> None:
    model = classifier(opset=13, image=image_input("N", 3, SIDE, SIDE, kind=kind))
    width = helper.tensor_dtype_to_np_dtype(kind)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values.astype(width), tensor.name))
    model.graph.output[0].type.tensor_type.elem_type = kind
    half = np.random.default_rng(0).normal(size=(2, 3, SIDE, SIDE)).astype(width)
    found = read_float_model(written(model, path))
    onnx.checker.check_model(found, full_check=True)
    single = run(found, data=half.astype(np.float32))
    assert single.dtype == np.float32
    if kind == TensorProto.FLOAT16:  # computing in half precision costs three digits
        assert difference(single, run(path, data=half).astype(np.float32)) < 1e-2
    else:  # for which ONNX Runtime has no convolution
        same = run(classifier(opset=13), data=half.astype(np.float32))
        np.testing.assert_array_equal(single, same)


def with_weights_in(folder: Path, location: str) -> ModelProto:
    model = classifier(opset=13)
    w3 = next(tensor for tensor in model.graph.initializer if tensor.name == "w3")
    (folder / location).write_bytes(w3.raw_data)
    w3.ClearField("raw_data")
    w3.data_location = TensorProto.EXTERNAL
    w3.external_data.add(key="location", value=location)
    return model


def test_weights_in_the_same_folder_are_read(path: Path, tmp_path: Path) -> None:
    written(with_weights_in(tmp_path, "weights.bin"), path)
    assert [file.path.name for file in files_of(path)] == ["model.onnx", "weights.bin"]
    images = np.random.default_rng(0).normal(size=(2, 3, SIDE, SIDE)).astype(np.float32)
    found = run(read_float_model(path), data=images)
    np.testing.assert_array_equal(found, run(classifier(opset=13), data=images))


@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin"])
def test_weights_elsewhere_are_not(tmp_path: Path, location: str) -> None:
    inner = tmp_path / "inner"
    (inner / "sub").mkdir(parents=True)
    path = written(with_weights_in(inner, location), inner / "model.onnx")
    assert (tmp_path / "secret.bin").is_file()
    assert "outside its own folder" in refused(path)
    with pytest.raises(GraphError, match="outside its own folder"):
        files_of(path)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = written(with_weights_in(inner, "../secret.bin"), inner / "model.onnx")
    (inner / "weights.bin").symlink_to(tmp_path / "secret.bin")
    model = onnx.load(path, load_external_data=False)
    w3 = next(tensor for tensor in model.graph.initializer if tensor.name == "w3")
    w3.external_data[0].value = "weights.bin"
    assert "outside its own folder" in refused(written(model, path))


def test_weights_that_are_missing_short_or_too_many(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(with_weights_in(tmp_path, "weights.bin"), path)
    weights = tmp_path / "weights.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4])
    refused(path)
    weights.unlink()
    assert "which is not there" in refused(path)
    weights.write_bytes(content + bytes(2**16))
    monkeypatch.setattr(limits, "MAX_BYTES", path.stat().st_size + 1)
    assert "in other files, more than the limit" in refused(path)
