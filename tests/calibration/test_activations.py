from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from calibration import CalibrationError, activations
from calibration.activations import ActivationSession, float_activations, samples_per_run
from calibration.stream import Array
from tests.calibration import nets


def inferred(model: onnx.ModelProto) -> onnx.GraphProto:
    return onnx.shape_inference.infer_shapes(model).graph


def test_activations_of_a_chain_in_order() -> None:
    expected = ["normalized", "conv0", "relu1", "maxpool2", "conv3", "relu4", "maxpool5"]
    expected += ["flatten6", "logits"]

    assert float_activations(inferred(nets.chain())) == expected
    # The bytes before DequantizeLinear are no float activations.
    assert float_activations(inferred(nets.raw_bytes(nets.chain()))) == expected


def test_what_does_not_depend_on_the_input_is_a_constant() -> None:
    constant = numpy_helper.from_array(nets.floats([1, 2]), "value")
    nodes = [
        helper.make_node("Constant", [], ["bias"], value=constant),
        helper.make_node("Mul", ["bias", "w"], ["scaled"]),
        helper.make_node("Add", ["x", "scaled"], ["y"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Dropout", ["x"], ["kept", ""]),  # the mask is not asked for
        helper.make_node("Clip", ["bias", "", "w"], ["clipped bias"]),
        helper.make_node("Clip", ["y", "", "w"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        # An initializer may be listed as an input as well (a default value).
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(nets.floats(3), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])

    assert float_activations(inferred(model)) == ["x", "y", "kept", "z"]


def test_samples_per_run_follow_from_the_size_of_the_activations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = inferred(nets.raw_bytes(nets.chain()))
    session = ActivationSession(nets.raw_bytes(nets.chain()).SerializeToString())
    sample_bytes = sum(values.nbytes for _, values in session.run({"image": nets.images(1)}))

    for size, expected in ((sample_bytes - 1, 1), (3 * sample_bytes, 3), (4 * sample_bytes - 1, 3)):
        monkeypatch.setattr(activations, "RUN_BYTES", size)
        assert samples_per_run(graph) == expected


def test_a_graph_that_fixes_its_batch_is_given_just_that() -> None:
    model = nets.raw_bytes(nets.chain())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8

    assert samples_per_run(inferred(model)) is None


@pytest.mark.parametrize("net", nets.NETS)
def test_session_yields_every_activation_with_its_values(net: str) -> None:
    core = nets.NETS[net]()
    session = ActivationSession(nets.raw_bytes(core).SerializeToString())
    pixels = nets.images(3)
    outputs = dict(session.run({"image": pixels}))

    assert list(outputs) == session.names
    assert all(values.dtype == np.float32 for values in outputs.values())
    assert np.array_equal(outputs["normalized"], nets.normalized(pixels))
    evaluator = ReferenceEvaluator(core)
    expected = evaluator.run(None, {"normalized": outputs["normalized"]}, intermediate=True)
    assert isinstance(expected, dict)
    for name, values in outputs.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-4)


def test_session_yields_a_float_input_as_it_was_given() -> None:
    session = ActivationSession(nets.chain().SerializeToString())
    values = nets.normalized(nets.images(2))
    outputs = dict(session.run({"normalized": values}))

    assert outputs["normalized"] is values
    assert len(outputs) == 9


def test_a_model_without_floats_is_refused() -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    with pytest.raises(CalibrationError, match="no float activations"):
        ActivationSession(model.SerializeToString())


def test_what_is_no_onnx_file_is_refused() -> None:
    with pytest.raises(CalibrationError, match="not an ONNX file"):
        ActivationSession(b"this is not a model")


def test_an_operator_that_nobody_knows_is_refused_in_one_line() -> None:
    model = nets.chain()
    model.graph.node[1].op_type = "Telu"
    with pytest.raises(CalibrationError, match="Telu") as caught:
        ActivationSession(model.SerializeToString())

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "batch",
    [
        {},
        {"pixels": nets.images(2)},
        {"image": nets.images(2)[:, :4]},
        {"image": nets.images(2).astype(np.float32)},
    ],
)
def test_a_batch_that_does_not_fit_is_refused_in_one_line(batch: dict[str, Array]) -> None:
    session = ActivationSession(nets.raw_bytes(nets.chain()).SerializeToString())
    with pytest.raises(CalibrationError, match="does not take the batch") as caught:
        list(session.run(batch))

    assert "\n" not in str(caught.value)
