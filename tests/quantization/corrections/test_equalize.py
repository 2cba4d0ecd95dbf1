from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from exporter.quantization.corrections.equalize import TOLERANCE, equalize, open_clips
from tests.graph.graphs import Array, evaluate, graph, noise, operators

CHAIN = """g (float[N,3,8,8] x) => (float[N,5,a,b] y) {
    a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1, b1)
    r = Relu(a)
    p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r)
    d = Conv<kernel_shape=[3,3], group=4, pads=[1,1,1,1]>(p, w2, b2)
    s = Relu(d)
    g = Conv<kernel_shape=[1,1], group=2>(s, w3, b3)
    l = LeakyRelu(g)
    y = Conv<kernel_shape=[1,1]>(l, w4, b4)
}"""
SHAPES = {"w1": (4, 3, 3, 3), "w2": (4, 1, 3, 3), "w3": (6, 2, 1, 1), "w4": (5, 6, 1, 1)}


def constants() -> dict[str, Array]:
    """Weights whose channels differ by factors of up to a thousand."""
    generator = np.random.default_rng(0)
    values: dict[str, Array] = {}
    for name, shape in SHAPES.items():
        spread = np.exp(generator.uniform(-3.5, 3.5, (shape[0], 1, 1, 1)))
        values[name] = (generator.normal(size=shape) * spread).astype(np.float32)
        values[name.replace("w", "b")] = generator.normal(size=shape[0]).astype(np.float32)
    return values


def weights(model: ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def largest_reading(values: Array, groups: int) -> list[float]:
    """The largest |weight| that reads each channel, one at a time."""
    outputs, channels = values.shape[:2]
    found = []
    for channel in range(groups * channels):
        group, inner = divmod(channel, channels)
        mine = range(group * outputs // groups, (group + 1) * outputs // groups)
        found.append(max(float(np.abs(values[output, inner]).max()) for output in mine))
    return found


def test_the_function_stays_and_neighbours_get_equal_ranges() -> None:
    model = graph(CHAIN, constants())
    x = noise(4, 3, 8, 8)

    even = equalize(model)

    before, after = evaluate(model, x=x), evaluate(even, x=x)
    assert np.abs(after - before).max() <= TOLERANCE * np.abs(before).max()
    found = weights(even)
    for first, second, groups in (("w1", "w2", 4), ("w2", "w3", 2), ("w3", "w4", 1)):
        written = np.abs(found[first]).reshape(len(found[first]), -1).max(axis=1)
        np.testing.assert_allclose(written, largest_reading(found[second], groups), rtol=5e-3)
    assert weights(model)["w1"].tolist() == constants()["w1"].tolist()  # the old one is as it was


def test_one_pair_by_hand() -> None:
    text = """g (float[N,2,1,1] x) => (float[N,1,1,1] y) {
        a = Conv(x, w1, b1)
        r = Relu(a)
        y = Conv(r, w2)
    }"""
    values: dict[str, Array] = {
        "w1": np.array([[8, 2], [1, -1]], np.float32).reshape(2, 2, 1, 1),
        "b1": np.array([4, 3], np.float32),
        "w2": np.array([[2, 4]], np.float32).reshape(1, 2, 1, 1),
    }

    found = weights(equalize(graph(text, values)))

    # Channel 0: 8 and 2 become 4 and 4; channel 1: 1 and 4 become 2 and 2.
    np.testing.assert_allclose(found["w1"].reshape(2, 2), [[4, 1], [2, -2]])
    np.testing.assert_allclose(found["b1"], [2, 6])
    np.testing.assert_allclose(found["w2"].reshape(2), [4, 2])


@pytest.mark.parametrize(
    "between",
    [
        "r = Sigmoid(a)",
        "r = Clip(a, zero, six)",
        "r = Relu(a) m = Add(r, r)",  # another reader
    ],
)
def test_what_lets_no_factor_through_is_left_alone(between: str) -> None:
    end = "m" if "m =" in between else "r"
    text = f"""g (float[N,3,4,4] x) => (float[N,4,c,d] y) {{
        a = Conv(x, w1)
        {between}
        n = Conv({end}, w2)
        y = Conv(r, w3)
    }}"""
    values: dict[str, Array] = {
        "w1": 10 * noise(4, 3, 1, 1),
        "w2": noise(4, 4, 1, 1),
        "w3": noise(4, 4, 1, 1, seed=2),
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
    }
    text = text if "Add" in between else text.replace(f"n = Conv({end}, w2)", "")
    model = graph(text, values)

    assert weights(equalize(model))["w1"].tolist() == weights(model)["w1"].tolist()


def test_a_channel_that_nothing_writes_or_reads_keeps_its_weights() -> None:
    text = """g (float[N,1,1,1] x) => (float[N,1,1,1] y) {
        a = Conv(x, w1)
        y = Conv(a, w2)
    }"""
    values: dict[str, Array] = {
        "w1": np.array([0, 5, 4], np.float32).reshape(3, 1, 1, 1),
        "w2": np.array([3, 0, 1], np.float32).reshape(1, 3, 1, 1),
    }

    found = weights(equalize(graph(text, values)))

    assert found["w1"].reshape(3).tolist() == [0, 5, 2]
    assert found["w2"].reshape(3).tolist() == [3, 0, 2]


def test_an_opened_clip_is_a_relu_and_can_be_equalised() -> None:
    text = """g (float[N,3,4,4] x) => (float[N,2,c,d] y) {
        a = Conv(x, w1)
        r = Clip(a, zero, six)
        s = Clip(r, one, many)
        y = Conv(s, w2)
    }"""
    values: dict[str, Array] = {
        "w1": noise(4, 3, 1, 1),
        "w2": noise(2, 4, 1, 1),
        "zero": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "six": np.array(6, np.float32),
        "many": np.array(1e6, np.float32),
    }
    model = graph(text, values)
    small, large = noise(2, 3, 4, 4) / 10, 100 * noise(2, 3, 4, 4)

    opened = open_clips(model)

    assert operators(opened) == ["Conv", "Relu", "Clip", "Conv"]
    assert operators(model) == ["Conv", "Clip", "Clip", "Conv"]
    np.testing.assert_array_equal(evaluate(opened, x=small), evaluate(model, x=small))
    assert set(weights(opened)) == {"w1", "w2", "one", "many"}
    assert evaluate(opened, x=large).max() > 2 * evaluate(model, x=large).max()
