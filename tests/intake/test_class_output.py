"""The output that tells the classes apart, and which classes these are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from exporter.config import IntakeConfig
from exporter.contract import OUTPUT_NAME
from exporter.errors import ConfigError, GraphError
from exporter.intake.class_names import read_names, rows_of, select_rows
from exporter.intake.class_output import drop_softmax, keep_output, use_logits
from tests.graph.graphs import operators
from tests.intake.files import CLASSES, SIDE, classifier, image_input, run

IMAGES = np.random.default_rng(0).normal(size=(3, 3, SIDE, SIDE)).astype(np.float32)
COUNT = len(CLASSES)
HIDDEN = helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["N", 16])
SCORES = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", COUNT])
BEST = helper.make_tensor_value_info("best", TensorProto.INT64, ["N", 1])
ARGMAX = helper.make_node("ArgMax", ["scores"], ["best"], axis=1)


def fixed(model: ModelProto) -> ModelProto:
    model.graph.input[0].CopyFrom(image_input(3, 3, SIDE, SIDE))
    return model


def finished(model: ModelProto, config: IntakeConfig, classes: int = COUNT) -> ModelProto:
    keep_output(model, config, classes)
    drop_softmax(model)
    use_logits(model, classes, batch=3)
    return model


@pytest.mark.parametrize("named", ["", "scores"])
def test_the_one_of_that_shape(named: str) -> None:
    outputs = [HIDDEN, SCORES, BEST]
    model = fixed(classifier(opset=13, last=[ARGMAX], outputs=outputs))
    finished(model, IntakeConfig(output=named))
    assert [info.name for info in model.graph.output] == [OUTPUT_NAME]
    assert "ArgMax" not in operators(model)
    np.testing.assert_array_equal(run(model, data=IMAGES), run(classifier(opset=13), data=IMAGES))


def test_an_output_must_be_named_where_several_could_be_meant() -> None:
    twin = helper.make_tensor_value_info("twin", TensorProto.FLOAT, ["N", COUNT])
    last = [helper.make_node("Relu", ["scores"], ["twin"])]
    model = fixed(classifier(opset=13, last=last, outputs=[SCORES, twin]))
    with pytest.raises(ConfigError, match=r"outputs scores, twin\. Say which .* --output"):
        keep_output(model, IntakeConfig(), COUNT)
    with pytest.raises(ConfigError, match="--output is 'x', but the file's outputs are scores, tw"):
        keep_output(model, IntakeConfig(output="x"), COUNT)


def test_whole_numbers_are_no_scores() -> None:
    model = fixed(classifier(opset=13, last=[ARGMAX], outputs=[BEST]))
    with pytest.raises(GraphError, match="no float numbers in 'best'"):
        keep_output(model, IntakeConfig(), COUNT)


@pytest.mark.parametrize("opset", [7, 13])
@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("behind", [[], ["Identity"], ["Flatten"]])
def test_a_softmax_at_the_end_is_dropped(opset: int, kind: str, behind: list[str]) -> None:
    last = [helper.make_node(kind, ["scores"], ["soft"], axis=1)]
    last += [helper.make_node(name, ["soft"], ["last"]) for name in behind]
    model = fixed(classifier(opset=opset, last=last))
    finished(model, IntakeConfig())
    assert kind not in operators(model)
    wanted = run(classifier(opset=opset), data=IMAGES)
    np.testing.assert_array_equal(run(model, data=IMAGES), wanted)


def test_a_softmax_inside_stays() -> None:
    last = [
        helper.make_node("Softmax", ["scores"], ["soft"], axis=1),
        helper.make_node("Mul", ["soft", "scores"], ["gated"]),
    ]
    model = fixed(classifier(opset=13, last=last))
    assert not drop_softmax(model)
    assert "Softmax" in operators(model)


def test_scores_of_one_pixel_are_flattened() -> None:
    last = [helper.make_node("Reshape", ["scores", "s"], ["planes"])]
    constants = {"s": np.array([-1, COUNT, 1, 1], np.int64)}
    planes = helper.make_tensor_value_info("planes", TensorProto.FLOAT, ["N", COUNT, 1, 1])
    model = fixed(classifier(opset=13, last=last, constants=constants, outputs=[planes]))
    assert run(finished(model, IntakeConfig()), data=IMAGES).shape == (3, COUNT)


def test_the_number_of_classes_must_be_the_datas() -> None:
    with pytest.raises(GraphError, match=r"tells 5 classes apart, but the data has 7.*--classes"):
        finished(fixed(classifier(opset=13)), IntakeConfig(), classes=7)


def test_feature_maps_are_no_classes() -> None:
    maps = helper.make_tensor_value_info("r2", TensorProto.FLOAT, ["N", 16, 6, 6])
    model = fixed(classifier(opset=13, outputs=[maps]))
    with pytest.raises(GraphError, match=r"gives \[3, 16, 6, 6\] in 'r2'.*Only classifiers"):
        finished(model, IntakeConfig())


@pytest.mark.parametrize("behind", [[], ["Relu"]])
@pytest.mark.parametrize("rows", [[2, 0], [4, 3, 2, 1, 0], [1]])
def test_outputs_in_another_order(rows: list[int], behind: list[str]) -> None:
    last = [helper.make_node(name, ["scores"], ["last"]) for name in behind]
    model = finished(fixed(classifier(opset=13, last=last)), IntakeConfig())
    wanted = run(model, data=IMAGES)[:, rows]
    select_rows(model, rows)
    np.testing.assert_array_equal(run(model, data=IMAGES), wanted)
    assert ("Gather" in operators(model)) == bool(behind)


def test_names_of_classes(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("dog\ncat\n\nant\n\n")
    names = read_names(file)
    assert names == ("dog", "cat", "", "ant")
    assert rows_of(names, ("ant", "cat")) == [3, 1]
    with pytest.raises(ConfigError, match="'bee' is missing among the 4 names"):
        rows_of(names, ("ant", "bee"))
    with pytest.raises(ConfigError, match="'ant' stands there 2 times"):
        rows_of(("ant", "ant"), ("ant",))
    file.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        read_names(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_names(tmp_path / "nowhere")
    file.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError, match="not a text in UTF-8"):
        read_names(file)
