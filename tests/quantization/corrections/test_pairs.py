from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from exporter.contract import InputContract
from exporter.graph.normalization import constant_pixel
from exporter.quantization.corrections import pairs
from exporter.quantization.corrections.pairs import Pixels, layer_pairs, with_constants
from exporter.quantization.quantize import QuantizedCore
from tests.graph import networks

PER_CHANNEL = InputContract(
    height=4, width=5, classes=("a", "b"), mean=(120.0, 115.0, 104.0), std=(60.0, 58.0, 61.0)
)


def test_layers_are_paired_by_name_and_weights_stay_within_half_a_step(core: QuantizedCore) -> None:
    found = layer_pairs(core)

    assert [pair.quantized.name for pair in found] == ["conv1", "conv2", "hidden", "head"]
    for pair in found:
        steps = pair.rows / pair.quantized.row_scales[:, None]
        assert np.abs(steps - pair.quantized.rows).max() < 0.501
        bias = pair.quantized.bias * pair.steps
        np.testing.assert_allclose(bias, pair.offset, atol=float(pair.steps.max()))
        assert pair.weight
        assert pair.bias


def test_weights_are_stored_as_they_were(core: QuantizedCore) -> None:
    constants = {t.name: numpy_helper.to_array(t) for t in core.quantized.graph.initializer}
    for pair in layer_pairs(core):
        np.testing.assert_array_equal(pair.stored(pair.quantized.rows), constants[pair.weight])


def test_a_scaled_matrix_product_is_left_out(core: QuantizedCore) -> None:
    floating = with_constants(core.floating, {})
    head = next(node for node in floating.graph.node if node.name == "head")
    head.attribute.append(helper.make_attribute("alpha", 0.5))
    changed = QuantizedCore(
        floating=floating, quantized=core.quantized, seven_bit_layers=(), tools={}
    )

    assert [pair.quantized.name for pair in layer_pairs(changed)] == ["conv1", "conv2", "hidden"]


def test_pixels_are_those_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "BATCH", 2)
    images = networks.pixels(5)

    batches = list(Pixels(images=images, contract=networks.CONTRACT, channels=3))

    assert [len(batch) for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(batches), networks.normalized(images))


def test_a_fourth_channel_holds_the_constant_pixel() -> None:
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)

    (batch,) = Pixels(images=images, contract=PER_CHANNEL, channels=4)

    assert batch.shape == (2, 4, 4, 5)
    assert batch.dtype == np.float32
    assert batch[1, 2, 3, 4] == (float(images[1, 3, 4, 2]) - 128) / 64
    assert set(batch[:, 3].flat) == {(constant_pixel(PER_CHANNEL) - 128) / 64}
