from __future__ import annotations

import pytest
from onnx import ModelProto, TensorProto, helper

from exporter.explanation.advice import advise
from exporter.explanation.rows import Row


def row(
    name: str,
    operator: str = "QLinearConv",
    integer: bool = True,
    ms: float = 1.0,
    baseline_ms: float | None = None,
) -> Row:
    return Row(
        name=name,
        operator=operator,
        integer=integer,
        ms=ms,
        baseline_operator=None,
        baseline_ms=baseline_ms,
        float_reason=None,
    )


def graph(*convolutions: tuple[str, int, int, int]) -> ModelProto:
    """Convolutions by name, output channels, input channels per group, groups."""
    return helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Conv", ["x", f"{name}.w"], [name], name, group=group)
                for name, _, _, group in convolutions
            ],
            "convolutions",
            [],
            [],
            [
                helper.make_tensor(
                    f"{name}.w", TensorProto.INT8, [outputs, inputs, 1, 1], [0] * outputs * inputs
                )
                for name, outputs, inputs, _ in convolutions
            ],
        )
    )


@pytest.mark.parametrize(
    ("convolution", "part"),
    [
        (("c", 32, 32, 1), None),
        (("c", 36, 20, 1), None),
        (("c", 33, 32, 1), "channels in multiples of 4"),
        (("c", 32, 30, 1), "channels in multiples of 4"),
        (("c", 32, 3, 1), "4 input channels: with 3"),
        (("c", 32, 1, 32), "depthwise ones gain little from int8"),
        (("c", 60, 1, 60), "a multiple of 16 channels"),
        (("c", 64, 16, 4), "group 1"),
    ],
)
def test_the_shape_of_a_convolution(
    convolution: tuple[str, int, int, int], part: str | None
) -> None:
    found = advise([row("c")], graph(convolution))

    assert len(found) == (part is not None)
    for entry in found:
        assert part is not None
        assert part in entry.text
        assert (entry.ms, entry.layers) == (1.0, ("c",))


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        (row("q", "QuantizeLinear", integer=False), "surrounded by conversions"),
        (row("t", "Transpose"), "keep channels last"),
        (
            row("h", "HardSigmoid", integer=False),
            "another operator: HardSigmoid (part of HardSwish) has no int8",
        ),
        (row("p", "QLinearGlobalAveragePool", baseline_ms=0.9), "in int8 it is slower"),
    ],
)
def test_what_an_operator_costs(entry: Row, part: str) -> None:
    (found,) = advise([entry, row("c", ms=0.5)], graph())

    assert part in found.text
    assert found.layers == (entry.name,)


def test_a_little_slower_is_no_reason() -> None:
    assert advise([row("c", baseline_ms=0.9995)], graph()) == ()
    assert len(advise([row("c", baseline_ms=0.9985)], graph())) == 1


def test_layers_are_put_together_and_the_most_time_comes_first() -> None:
    rows = [row("a"), row("b", ms=2.0), row("t", "Transpose", ms=4.0), row("d", ms=50.0)]
    model = graph(("a", 18, 16, 1), ("b", 16, 18, 1), ("d", 32, 32, 1))

    first, second = advise(rows, model)

    assert (first.layers, first.ms) == (("t",), 4.0)
    assert (second.layers, second.ms) == (("a", "b"), 3.0)


def test_what_takes_little_is_not_told() -> None:
    assert advise([row("c", ms=100.0), row("t", "Transpose", ms=2.9)], graph()) == ()


def test_a_float_file_gets_no_advice_on_int8() -> None:
    assert advise([row("t", "Transpose", integer=False)], graph()) == ()
