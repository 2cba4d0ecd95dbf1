from __future__ import annotations

from pathlib import Path

import onnx
from onnx import StringStringEntryProto, helper

from exporter.graph.canonical import IR_VERSION, save_model
from tests.graph.graphs import graph

TEXT = "g (float[N,4] x) => (float[N,4] y) { y = Softmax<axis=1>(x) }"


def test_notes_of_the_making_are_gone_and_the_model_stays(path: Path, tmp_path: Path) -> None:
    noted, bare = graph(TEXT), graph(TEXT)
    note = StringStringEntryProto(key="stack_trace", value="/home/somebody/net.py")
    noted.graph.node[0].metadata_props.append(note)
    noted.graph.node[0].doc_string = "made at noon"
    noted.graph.node[0].attribute[0].doc_string = "made at noon"
    noted.graph.metadata_props.append(note)
    noted.graph.input[0].doc_string = "made at noon"
    noted.graph.name, noted.graph.doc_string = "main_graph", "made at noon"
    noted.producer_name, noted.producer_version, noted.ir_version = "pytorch", "9", 11
    noted.graph.value_info.append(helper.make_tensor_value_info("x", 1, [1, 4]))
    noted.opset_import.append(helper.make_opsetid("org.unused", 1))

    save_model(noted, path)
    save_model(bare, tmp_path / "bare.onnx")

    assert path.read_bytes() == (tmp_path / "bare.onnx").read_bytes()
    saved = onnx.load(path)
    onnx.checker.check_model(saved, full_check=True)
    assert saved.ir_version == IR_VERSION
    assert [(entry.domain, entry.version) for entry in saved.opset_import] == [("", 18)]
    assert helper.get_node_attr_value(saved.graph.node[0], "axis") == 1


def test_the_models_own_metadata_stays(path: Path) -> None:
    model = graph(TEXT)
    helper.set_model_props(model, {"classes": "[]"})

    save_model(model, path)

    assert [(entry.key, entry.value) for entry in onnx.load(path).metadata_props] == [
        ("classes", "[]")
    ]


def test_the_order_of_attributes_does_not_matter(path: Path, tmp_path: Path) -> None:
    text = "g (float[N,1,4,4] x) => (float[N,1,a,b] y) { y = MaxPool<%s>(x) }"
    save_model(graph(text % "kernel_shape=[2,2], strides=[2,2]"), path)
    save_model(graph(text % "strides=[2,2], kernel_shape=[2,2]"), tmp_path / "other.onnx")

    assert path.read_bytes() == (tmp_path / "other.onnx").read_bytes()
