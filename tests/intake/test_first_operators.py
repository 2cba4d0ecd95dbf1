"""Normalisation in the graph is found, taken out, and counted as what it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from exporter.errors import GraphError
from exporter.graph.normalization import NORMALIZED
from exporter.intake.first_operators import FirstOperators, take_first_operators
from exporter.intake.image_input import ImageInput, Layout
from exporter.intake.pixels import usual_pixels, with_first_operators
from exporter.normalization import NORMALIZATIONS, Normalization
from tests.graph.graphs import operators
from tests.intake.files import IMAGENET, SIDE, Array, classifier, image_input, raw_images, run

EXACT = 1e-6
MEAN, STD = (values.astype(np.float32) for values in IMAGENET)


def planes(values: Array) -> Array:
    return np.asarray(values, np.float32).reshape(-1, 1, 1)


def node(kind: str, *names: str, **attributes: Any) -> NodeProto:
    *inputs, output = names
    return helper.make_node(kind, inputs, [output], **attributes)


def image(layout: Layout = "NCHW") -> ImageInput:
    return ImageInput(name="data", layout=layout, channels=3, height=SIDE, width=SIDE, batch=None)


IN_BYTES = {"m": planes(255 * MEAN), "s": planes(255 * STD)}
AFFINE = [
    ("sub, div", [node("Sub", "data", "m", "a"), node("Div", "a", "s", "b")], "b", IN_BYTES),
    (
        "div, sub, div",
        [
            node("Div", "data", "k", "a"),
            node("Sub", "a", "m", "b"),
            node("Div", "b", "s", "c"),
        ],
        "c",
        {"k": np.float32(255), "m": planes(MEAN)[np.newaxis], "s": planes(STD)[np.newaxis]},
    ),
    (
        "mul, add",
        [node("Mul", "gain", "data", "a"), node("Add", "offset", "a", "b")],
        "b",
        {"gain": planes(1 / (255 * STD)), "offset": planes(-MEAN / STD)},
    ),
    (
        "batch-norm",
        [node("BatchNormalization", "data", "one", "zero", "m", "v", "b", epsilon=0.0)],
        "b",
        {
            "one": np.ones(3, np.float32),
            "zero": np.zeros(3, np.float32),
            "m": 255 * MEAN,
            "v": (255 * STD) ** 2,
        },
    ),
    (
        "identity, sub, cast, div",
        [
            node("Identity", "data", "i"),
            node("Sub", "i", "m", "a"),
            node("Cast", "a", "c", to=TensorProto.FLOAT),
            node("Div", "c", "s", "b"),
        ],
        "b",
        IN_BYTES,
    ),
]


@pytest.mark.parametrize(("first", "start", "constants"), [a[1:] for a in AFFINE], ids=lambda _: "")
def test_one_factor_and_offset_per_channel(
    first: Sequence[NodeProto], start: str, constants: dict[str, Array]
) -> None:
    user = classifier(opset=13, first=first, start=start, constants=constants)
    core = classifier(opset=13, first=first, start=start, constants=constants)
    found = take_first_operators(core, image(), batch=3)
    assert found.operators == tuple(entry.op_type for entry in first)
    np.testing.assert_allclose(found.gain, 1 / (255 * STD.astype(np.float64)), rtol=EXACT)
    np.testing.assert_allclose(found.offset, -MEAN / STD, rtol=EXACT)
    assert core.graph.node[0].op_type == "Conv"
    assert [info.name for info in core.graph.input] == [NORMALIZED]
    raw = raw_images(3).transpose(0, 3, 1, 2).astype(np.float32)
    normalized = (raw * planes(found.gain) + planes(found.offset)).astype(np.float32)
    np.testing.assert_allclose(run(core, normalized=normalized), run(user, data=raw), rtol=1e-4)


def test_channels_last_become_first() -> None:
    first = [
        node("Sub", "data", "m", "a"),
        node("Transpose", "a", "b", perm=[0, 3, 1, 2]),
        node("Div", "b", "s", "c"),
    ]
    core = classifier(
        opset=13, image=image_input("N", SIDE, SIDE, 3), first=first, start="c",
        constants={"m": 255 * MEAN, "s": planes(255 * STD)},
    )  # fmt: skip
    found = take_first_operators(core, image("NHWC"), batch=3)
    np.testing.assert_allclose(found.offset, -MEAN / STD, rtol=EXACT)
    assert operators(core)[0] == "Conv"


def test_a_network_on_last_channels_gets_them_back() -> None:
    first = [node("Relu", "data", "r"), node("Transpose", "r", "t", perm=[0, 3, 1, 2])]
    user = classifier(opset=13, image=image_input("N", SIDE, SIDE, 3), first=first, start="t")
    core = classifier(opset=13, image=image_input("N", SIDE, SIDE, 3), first=first, start="t")
    found = take_first_operators(core, image("NHWC"), batch=3)
    assert found.operators == ()
    assert operators(core)[:3] == ["Transpose", "Relu", "Transpose"]
    raw = raw_images(3).astype(np.float32)
    np.testing.assert_array_equal(
        run(core, normalized=raw.transpose(0, 3, 1, 2)), run(user, data=raw)
    )


@pytest.mark.parametrize(
    ("kind", "inputs", "constants"),
    [
        ("Mul", ["data", "k"], {"k": np.float32(-1)}),
        ("Sub", ["k", "data"], {"k": np.float32(255)}),
        ("Div", ["k", "data"], {"k": np.float32(255)}),
        ("Sub", ["data", "k"], {"k": np.zeros((3, SIDE, SIDE), np.float32)}),
        ("Mul", ["data", "data"], {}),
        ("Relu", ["data"], {}),
    ],
)
def test_everything_else_stays(kind: str, inputs: list[str], constants: dict[str, Array]) -> None:
    first = [helper.make_node(kind, inputs, ["a"])]
    core = classifier(opset=13, first=first, start="a", constants=constants)
    found = take_first_operators(core, image(), batch=3)
    assert found.operators == ()
    assert operators(core)[0] == kind
    assert NORMALIZED in core.graph.node[0].input


def test_bytes_are_cast_or_refused() -> None:
    bytes_in = image_input("N", 3, SIDE, SIDE, kind=TensorProto.UINT8)
    cast = [node("Cast", "data", "a", to=TensorProto.FLOAT)]
    core = classifier(opset=13, image=bytes_in, first=cast, start="a")
    assert take_first_operators(core, image(), batch=3).operators == ("Cast",)
    assert core.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    pooled = [
        node("MaxPool", "data", "p", kernel_shape=[1, 1]),
        node("Cast", "p", "a", to=TensorProto.FLOAT),
    ]
    core = classifier(opset=13, image=bytes_in, first=pooled, start="a")
    with pytest.raises(GraphError, match="whole numbers in 'data'"):
        take_first_operators(core, image(), batch=3)


def affine(gain: float, offset: float) -> FirstOperators:
    return FirstOperators(
        gain=np.full(3, gain), offset=np.full(3, offset), operators=("Mul", "Add")
    )


@pytest.mark.parametrize(
    ("first", "takes_bytes", "name"),
    [
        (affine(1, 0), False, "imagenet"),
        (affine(1, 0), True, "raw"),
        (affine(1 / 255, 0), False, "raw"),
        (affine(1 / 58.4, -2.1), False, "raw"),
        (affine(1 / 0.226, -2.1), False, "none"),
        (affine(2, -1), False, "none"),
        (affine(1 / 127.5, -1), False, "raw"),
        (affine(1, -128), False, "none"),
    ],
)
def test_what_it_most_likely_takes(first: FirstOperators, takes_bytes: bool, name: str) -> None:
    assert usual_pixels(first, takes_bytes=takes_bytes).name == name


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_both_normalisations_together(order: str) -> None:
    stated = Normalization(
        name="s", summary="", scale=0.01, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)
    )
    first = FirstOperators(
        gain=np.array([2.0, 3.0, 4.0]), offset=np.array([0.5, 0.6, -0.7]), operators=()
    )
    both = with_first_operators(stated, first, order)
    step = -1 if order == "bgr" else 1
    for pixel in (0.0, 100.0, 255.0):
        normalized = (pixel * 0.01 - np.array(stated.mean)) / np.array(stated.std)
        wanted = first.gain[::step] * normalized + first.offset[::step]
        np.testing.assert_allclose((pixel - np.array(both.mean)) / np.array(both.std), wanted)


def test_without_first_operators_nothing_changes() -> None:
    for how in NORMALIZATIONS.values():
        same = with_first_operators(how, affine(1, 0), "rgb")
        wanted = np.broadcast_to(np.array(how.mean) / how.scale, 3)
        np.testing.assert_allclose(same.mean, wanted, rtol=1e-12)
