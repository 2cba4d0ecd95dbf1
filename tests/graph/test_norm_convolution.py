from __future__ import annotations

import numpy as np
import pytest

from exporter.graph.norm_convolution import use_convolution_for_norm
from tests.graph.graphs import Array, evaluate, graph, noise, operators

PARAMETERS: dict[str, Array] = {
    "norm.weight": noise(3, seed=1),
    "norm.bias": noise(3, seed=2),
    "norm.running_mean": noise(3, seed=3),
    "norm.running_var": noise(3, seed=4) ** 2 + 0.1,
}
NORM = "BatchNormalization<epsilon=0.01>(x, {}, {}, {}, {})".format(
    *(name.replace(".", "_") for name in PARAMETERS)
)


def with_norm(shape: str) -> tuple[str, dict[str, Array]]:
    # The text form has no dots in names.
    text = f"g (float[{shape}] x) => (float[{shape}] y) {{ y = {NORM} }}"
    return text, {name.replace(".", "_"): value for name, value in PARAMETERS.items()}


def test_a_batch_norm_over_images_is_a_convolution_per_channel() -> None:
    model = graph(*with_norm("N,3,4,5"))
    x = noise(2, 3, 4, 5)
    before = evaluate(model, x=x)

    assert use_convolution_for_norm(model) == 1

    assert operators(model) == ["Conv"]
    assert len(model.graph.initializer) == 2
    np.testing.assert_allclose(evaluate(model, x=x), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", ["N,3", "N,3,4"])
def test_other_batch_norms_stay(shape: str) -> None:
    model = graph(*with_norm(shape))

    assert use_convolution_for_norm(model) == 0
    assert operators(model) == ["BatchNormalization"]


def test_statistics_that_are_computed_stay() -> None:
    text, constants = with_norm("N,3,4,5")
    text = text.replace("{ y", "{ norm_bias = Add(norm_weight, norm_weight) y")
    del constants["norm_bias"]
    model = graph(text, constants)

    assert use_convolution_for_norm(model) == 0
