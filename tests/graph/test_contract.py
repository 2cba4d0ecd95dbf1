from __future__ import annotations

import numpy as np
import onnx
import pytest

from exporter.contract import InputContract
from exporter.errors import GraphError
from exporter.graph.contract import attach_image, attach_image_to_quantized, detach_image
from tests.graph.graphs import Array, evaluate, graph, operators

CONTRACT = InputContract(height=2, width=4, zero_point=100, scale=1 / 32, classes=("a",))
CORE = "g (float[N,3,2,4] normalized) => (float[N,24] logits) { logits = Flatten(normalized) }"
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 3), dtype=np.uint8)
NORMALIZED = ((IMAGES.astype(np.float32) - 100) / 32).transpose(0, 3, 1, 2)


def test_attached_input_is_the_trainings_normalisation() -> None:
    model = graph(CORE)

    attach_image(model, CONTRACT)

    onnx.checker.check_model(model, full_check=True)
    (image,) = model.graph.input
    assert image.name == "image"
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    dims = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert dims == ["N", 2, 4, 3]
    np.testing.assert_array_equal(evaluate(model, image=IMAGES), NORMALIZED.reshape(3, -1))


def test_detaching_undoes_attaching() -> None:
    model, before = graph(CORE), graph(CORE)
    attach_image(model, CONTRACT)

    detach_image(model, CONTRACT)

    assert model.graph == before.graph


@pytest.mark.parametrize(
    "text",
    [
        CORE,
        """g (uint8[N,2,4,3] image) => (uint8[N,24] logits) {
            image_nchw = Transpose<perm=[0,3,1,2]>(image)
            logits = Flatten(image_nchw)
        }""",
        """g (uint8[N,2,4,3] image) => (float[N,24] logits) {
            normalized = Cast<to=1>(image)
            logits = Flatten(normalized)
        }""",
    ],
)
def test_another_input_side_cannot_be_detached(text: str) -> None:
    with pytest.raises(GraphError, match="does not start with image"):
        detach_image(graph(text), CONTRACT)


QUANTIZED = """g (float[N,3,2,4] normalized) => (float[N,24] logits) {
    q = QuantizeLinear(normalized, s, z)
    d = DequantizeLinear(q, s, z)
    logits = Flatten(d)
}"""
PARAMETERS: dict[str, Array] = {"s": np.array(1 / 32, np.float32), "z": np.array(100, np.uint8)}


def test_raw_bytes_take_the_place_of_the_first_quantization() -> None:
    model = graph(QUANTIZED, PARAMETERS)
    before = evaluate(model, normalized=NORMALIZED)

    attach_image_to_quantized(model, CONTRACT)

    onnx.checker.check_model(model, full_check=True)
    assert operators(model) == ["Transpose", "DequantizeLinear", "Flatten"]
    np.testing.assert_array_equal(evaluate(model, image=IMAGES), before)


@pytest.mark.parametrize(
    "changed", [{"s": np.array(1 / 16, np.float32)}, {"z": np.array(101, np.uint8)}]
)
def test_pixels_quantized_otherwise_are_refused(changed: dict[str, Array]) -> None:
    model = graph(QUANTIZED, PARAMETERS | changed)

    with pytest.raises(GraphError, match="but the input contract has"):
        attach_image_to_quantized(model, CONTRACT)


def test_pixels_that_are_also_read_in_float_are_refused() -> None:
    text = QUANTIZED.replace("logits = Flatten(d)", "t = Add(d, normalized) logits = Flatten(t)")

    with pytest.raises(GraphError, match="read by n0, n2"):
        attach_image_to_quantized(graph(text, PARAMETERS), CONTRACT)
