from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper

from exporter.contract import InputContract
from exporter.errors import GraphError
from exporter.graph.canonical import save_model
from exporter.graph.metadata import read_contract, read_tools, tool_versions, write_metadata
from tests.graph.graphs import graph

CONTRACT = InputContract(
    height=32,
    width=48,
    zero_point=117,
    scale=1 / 58.3,
    resize="stretch",
    classes=("Zürich", '"quoted"', "line\nbreak", "日本"),
)
TEXT = "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"


def test_contract_and_tools_survive_the_file(path: Path) -> None:
    model = graph(TEXT)
    tools = {"torch": "2", "onnx": "1"}
    write_metadata(model, CONTRACT, tools=tools, digests={"checkpoint": "abc"})
    save_model(model, path)

    read = onnx.load(path)

    assert read_contract(read) == CONTRACT
    assert read_tools(read) == tools


def test_the_same_facts_are_the_same_bytes(path: Path, tmp_path: Path) -> None:
    for file, tools in ((path, ("onnx", "numpy")), (tmp_path / "b.onnx", ("numpy", "onnx"))):
        model = graph(TEXT)
        helper.set_model_props(model, {"stale": "entry"})
        write_metadata(model, CONTRACT, tools=tool_versions(*tools), digests={})
        save_model(model, file)

    assert path.read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert b"stale" not in path.read_bytes()


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"classes": None}, "no input contract"),
        ({"input": None}, "no input contract"),
        ({"input": "{"}, "damaged"),
        ({"input": "[1]"}, "damaged"),
        ({"input": '{"height": "tall", "width": 4}'}, "damaged"),
        ({"input": '{"height": 4, "width": 4, "surprise": 1}'}, "damaged"),
        ({"classes": "7"}, "damaged"),
        ({"classes": "[1, 2]"}, "damaged"),
    ],
)
def test_foreign_or_damaged_metadata(changes: dict[str, str | None], hint: str) -> None:
    model = graph(TEXT)
    write_metadata(model, CONTRACT, tools={}, digests={})
    entries = {entry.key: entry.value for entry in model.metadata_props} | changes
    helper.set_model_props(model, {key: text for key, text in entries.items() if text is not None})

    with pytest.raises(GraphError, match=hint):
        read_contract(model)
