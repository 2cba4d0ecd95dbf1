from __future__ import annotations

import numpy as np

from exporter.quantization.layers import Layer
from exporter.quantization.weight_ranges import channel_ranges, weight_overrides


def layer(name: str, weight: str, rows: list[list[float]]) -> Layer:
    return Layer(name=name, weight=weight, output_axis=0, rows=np.array(rows, np.float32))


def test_a_channel_reaches_to_its_largest_weight() -> None:
    assert channel_ranges(np.array([[0.5, -2], [1, 0]], np.float32)).tolist() == [2, 1]


def test_a_dead_channel_borrows_the_median() -> None:
    rows = np.array([[0, 0], [1, -1], [3, 0], [0, -8], [1e-40, 0]], np.float32)

    assert channel_ranges(rows).tolist() == [3, 1, 3, 8, 3]


def test_a_dead_layer_has_ranges_too() -> None:
    assert channel_ranges(np.zeros((2, 3), np.float32)).tolist() == [1, 1]


def test_one_override_per_channel_or_per_layer() -> None:
    layers = [layer("a", "a.weight", [[1, -2], [4, 0]]), layer("b", "b.weight", [[8, 0]])]

    per_channel = weight_overrides(layers, per_channel=True, seven_bit=["b"])
    per_layer = weight_overrides(layers, per_channel=False, seven_bit=["a"])

    assert per_channel == {
        "a.weight": [
            {"axis": 0, "reduce_range": False, "rmin": -2, "rmax": 2},
            {"axis": 0, "reduce_range": False, "rmin": -4, "rmax": 4},
        ],
        "b.weight": [{"axis": 0, "reduce_range": True, "rmin": -8, "rmax": 8}],
    }
    assert per_layer == {
        "a.weight": [{"reduce_range": True, "rmin": -4, "rmax": 4}],
        "b.weight": [{"reduce_range": False, "rmin": -8, "rmax": 8}],
    }


def test_weights_that_two_layers_share_are_as_narrow_as_either_needs() -> None:
    layers = [layer("a", "shared", [[1, 1]]), layer("b", "shared", [[1, 1]])]

    overrides = weight_overrides(layers, per_channel=True, seven_bit=["a"])

    assert [entry["reduce_range"] for entry in overrides["shared"]] == [True]
