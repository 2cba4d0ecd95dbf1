from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from exporter.errors import GraphError
from exporter.graph import limits
from exporter.graph.limits import read_model
from exporter.graph.model import OnnxModel
from tests.graph.graphs import graph, noise

ADD = "g (float[N,4] x) => (float[N,4] y) { y = Add(x, w) }"


def written(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def add() -> ModelProto:
    return graph(ADD, {"w": noise(4)})


def test_a_sound_file_is_read(path: Path) -> None:
    assert read_model(written(add(), path)) == add()


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "without a network"),
        (b"hello, world", "not an ONNX file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "not an ONNX file"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "without a network"),
    ],
)
def test_no_onnx_file(content: bytes, hint: str, path: Path) -> None:
    path.write_bytes(content)

    with pytest.raises(GraphError, match=hint):
        read_model(path)


def test_a_missing_file_and_a_folder(path: Path, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="No such file"):
        read_model(path)
    with pytest.raises(GraphError, match="directory"):
        read_model(tmp_path)


def test_every_truncation_is_noticed(plain: OnnxModel, path: Path) -> None:
    content = plain.file.path.read_bytes()
    for length in np.linspace(1, len(content) - 1, 50, dtype=int):
        path.write_bytes(content[:length])
        with pytest.raises(GraphError):
            read_model(path)


def test_random_damage_is_an_error_of_ours_or_harmless(plain: OnnxModel, path: Path) -> None:
    generator = np.random.default_rng(0)
    content = np.frombuffer(plain.file.path.read_bytes(), np.uint8)
    harmless = 0
    for _ in range(200):
        damaged = content.copy()
        damaged[generator.integers(0, 1200, 3)] = generator.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        with suppress(GraphError):
            read_model(path)
            harmless += 1
    assert harmless < 150


def test_data_in_other_files_is_never_opened(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(16))
    model = add()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")

    with pytest.raises(GraphError, match="'w' in another file"):
        read_model(written(model, path))


def test_external_data_inside_an_attribute(path: Path) -> None:
    hidden = TensorProto(name="h", data_type=TensorProto.FLOAT, dims=[4])
    hidden.data_location = TensorProto.EXTERNAL
    hidden.external_data.add(key="location", value="../secret")
    model = add()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=hidden))

    with pytest.raises(GraphError, match="'h' in another file"):
        read_model(written(model, path))


def test_custom_operators(path: Path) -> None:
    model = add()
    model.graph.node[0].domain = "org.evil"
    model.opset_import.append(helper.make_opsetid("org.evil", 1))

    with pytest.raises(GraphError, match=r"custom operator org\.evil\.Add"):
        read_model(written(model, path))


def test_functions(path: Path) -> None:
    model = add()
    model.functions.append(
        helper.make_function("org.f", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])],
                             [helper.make_opsetid("", 18)])
    )  # fmt: skip

    with pytest.raises(GraphError, match="functions"):
        read_model(written(model, path))


def test_control_flow(path: Path) -> None:
    model = graph(
        "g (bool c, float[N,4] x) => (float[N,4] y) { y = If<"
        "then_branch = t () => (float[N,4] p) { p = Relu(x) }, "
        "else_branch = e () => (float[N,4] q) { q = Neg(x) }>(c) }"
    )

    with pytest.raises(GraphError, match="control flow"):
        read_model(written(model, path))


def test_stored_tensors_have_a_limit(path: Path) -> None:
    model = add()
    model.graph.initializer[0].dims[:] = [2**20, 2**20]

    with pytest.raises(GraphError, match="'w' with 1,099,511,627,776 elements"):
        read_model(written(model, path))


def test_computed_tensors_have_a_limit(path: Path) -> None:
    text = "g (float[N,4] x) => (float[a,b,c] y) { y = Expand(x, shape) }"
    model = graph(text, {"shape": np.array([2**17, 2**15, 4])})

    with pytest.raises(GraphError, match="elements, more than the limit"):
        read_model(written(model, path))


def test_negative_dimensions(path: Path) -> None:
    model = add()
    model.graph.initializer[0].dims[0] = -4

    with pytest.raises(GraphError, match="negative dimension"):
        read_model(written(model, path))


def test_too_many_nodes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_NODES", 2)
    lines = "a = Relu(x) b = Relu(a) y = Relu(b)"
    model = graph(f"g (float[N,4] x) => (float[N,4] y) {{ {lines} }}")

    with pytest.raises(GraphError, match="3 nodes, more than the limit of 2"):
        read_model(written(model, path))


def test_too_large_a_file_is_not_even_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("wb") as file:
        file.truncate(limits.MAX_BYTES + 1)  # sparse, takes no room
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("was read"))

    with pytest.raises(GraphError, match="512 MiB, more than the limit"):
        read_model(path)


def test_weights_shorter_than_their_shape(path: Path) -> None:
    model = add()
    model.graph.initializer[0].raw_data = bytes(8)

    with pytest.raises(GraphError, match="not valid ONNX"):
        read_model(written(model, path))


def test_types_that_do_not_fit(path: Path) -> None:
    model = graph(ADD, {"w": np.arange(4)})

    with pytest.raises(GraphError, match="not valid ONNX"):
        read_model(written(model, path))
