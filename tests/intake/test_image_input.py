"""Which input takes the image, and in which order; what must be said is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from exporter.config import IntakeConfig
from exporter.data.size import Size
from exporter.errors import ConfigError, GraphError
from exporter.intake.image_input import ImageInput, find_image, fix_input
from tests.intake.files import SIDE, classifier, image_input

CONFIG = IntakeConfig()
NHWC = [helper.make_node("Transpose", ["data"], ["planes"], perm=[0, 3, 1, 2])]


def last_channels(*shape: int | str | None) -> ModelProto:
    return classifier(image=image_input(*shape), first=NHWC, start="planes")


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        (classifier(), None, ("NCHW", 3, SIDE, SIDE, None)),
        (classifier(image=image_input(1, 3, 8, 9)), None, ("NCHW", 3, 8, 9, 1)),
        (classifier(image=image_input(4, 3, 8, 9)), None, ("NCHW", 3, 8, 9, 4)),
        (last_channels("N", 8, 9, 3), None, ("NHWC", 3, 8, 9, None)),
        (last_channels(None, 3, 9, 3), None, ("NHWC", 3, 3, 9, None)),
        (classifier(image=image_input("N", 3, "h", "w")), Size(8, 9), ("NCHW", 3, 8, 9, None)),
        (classifier(image=image_input("N", 3, 8, "w")), Size(8, 9), ("NCHW", 3, 8, 9, None)),
        (classifier(image=image_input("N", None, "h", "w")), Size(8, 9), ("NCHW", 3, 8, 9, None)),
        (classifier(image=image_input(-1, 3, -1, -1)), Size(8, 9), ("NCHW", 3, 8, 9, None)),
        (
            classifier(channels=1, image=image_input(1, 1, 28, 28)),
            Size(28, 28),
            ("NCHW", 1, 28, 28, 1),
        ),
    ],
    ids=str,
)
def test_the_only_input(
    model: ModelProto, size: Size | None, expected: tuple[str, int, int, int, int | None]
) -> None:
    found = find_image(model, CONFIG, size)
    assert found.name == "data"
    assert (found.layout, found.channels, found.height, found.width, found.batch) == expected


def test_a_stated_layout_wins() -> None:
    model = classifier(image=image_input("N", 3, 8, 3))
    assert find_image(model, IntakeConfig(layout="nhwc"), None).layout == "NHWC"
    assert find_image(model, CONFIG, None).layout == "NCHW"  # a convolution reads it


@pytest.mark.parametrize(
    ("model", "config", "size", "message"),
    [
        (
            classifier(image=image_input("N", 3, "h", "w")),
            CONFIG,
            None,
            "any size in 'data'.*--size",
        ),
        (classifier(), CONFIG, Size(8, 8), "--size is 8x8, but the file takes images of 12x12"),
        (classifier(), IntakeConfig(input="x"), None, "--input is 'x', .*inputs are data"),
        (
            classifier(inputs=[image_input(1, 3, 4, 4, name="other")]),
            CONFIG,
            None,
            "inputs data, other. Say which .*--input",
        ),
        (
            classifier(
                image=image_input("N", 3, 8, 3),
                first=[helper.make_node("Relu", ["data"], ["planes"])],
                start="planes",
            ),
            CONFIG,
            None,
            "--layout nchw or nhwc",
        ),
    ],
)
def test_what_must_be_said_is_asked_for(
    model: ModelProto, config: IntakeConfig, size: Size | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        find_image(model, config, size)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (image_input("N", 4, 8, 8), "images of 4 channels"),
        (image_input("N", 3 * 8 * 8), r"shape \[None, 192\]"),
        (image_input("N", 3, 8, 8, kind=TensorProto.BOOL), "no numbers that pixels can be"),
    ],
)
def test_no_image(image: ValueInfoProto, message: str) -> None:
    model = classifier()
    model.graph.input[0].CopyFrom(image)
    with pytest.raises(GraphError, match=message):
        find_image(model, IntakeConfig(layout="nchw"), None)


IMAGE = ImageInput(name="data", layout="NCHW", channels=3, height=8, width=9, batch=None)
RATE = helper.make_tensor_value_info("rate", TensorProto.FLOAT, [])
FLAG = helper.make_tensor_value_info("flag", TensorProto.INT64, ["N", 2])


def test_other_inputs_become_constant() -> None:
    model = classifier(inputs=[RATE, FLAG])
    fix_input(model, IMAGE, IntakeConfig(constant=("rate=0.5", "flag=1")), batch=3)
    (image,) = model.graph.input
    assert [dim.dim_value for dim in image.type.tensor_type.shape.dim] == [3, 3, 8, 9]
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert values["rate"].shape == ()
    assert values["rate"] == np.float32(0.5)
    np.testing.assert_array_equal(values["flag"], np.ones((3, 2), np.int64))


@pytest.mark.parametrize(
    ("constant", "message"),
    [
        ((), "--constant rate=NUMBER"),
        (("rate=0.5", "x=1"), "--constant names 'x', but the file's inputs are data, rate"),
        (("rate",), "--constant is 'rate', but must be NAME=NUMBER"),
        (("=1",), "must be NAME=NUMBER"),
    ],
)
def test_constants_that_do_not_fit(constant: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fix_input(classifier(inputs=[RATE]), IMAGE, IntakeConfig(constant=constant), batch=3)
