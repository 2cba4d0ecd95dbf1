"""A layer at the rails is named and measured; the same layer with seven bits is proven safe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.artifacts import Artifact
from exporter.data.splits import Split
from exporter.errors import GraphError
from exporter.graph.canonical import save_model
from exporter.quantization import audit
from exporter.quantization.audit import (
    LayerAudit,
    audit_saturation,
    audit_weights,
    saturates_somewhere,
)
from exporter.targets import TARGETS
from tests.graph.graphs import Array, graph

IMAGES = 11
TWO_LAYERS = """g (uint8[N,2,3,4] image) => (float[N,2,2,3] logits) {
    nchw = Transpose<perm=[0,3,1,2]>(image)
    x = DequantizeLinear(nchw, one, zero)
    a = DequantizeLinear(wa, one, none)
    [first] y = Conv(x, a)
    q = QuantizeLinear(y, one, zero)
    d = DequantizeLinear(q, one, zero)
    b = DequantizeLinear<axis=0>(wb, two, nones)
    [second] logits = Conv(d, b)
}"""


def two_layers(folder: Path, row: list[int]) -> Artifact:
    """Return a file whose first layer copies bytes, and whose second has ``row`` as weights.

    Its second output has weights that are too small to saturate.
    """
    constants: dict[str, Array] = {
        "one": np.array(0.5, np.float32),
        "two": np.array([0.5, 2.0], np.float32),
        "zero": np.array(3, np.uint8),
        "none": np.array(0, np.int8),
        "nones": np.zeros(2, np.int8),
        "wa": 2 * np.eye(4, dtype=np.int8).reshape(4, 4, 1, 1),
        "wb": np.array([row, [1, -1, 1, 0]], np.int8).reshape(2, 4, 1, 1),
    }
    path = folder / "model.onnx"
    save_model(graph(TWO_LAYERS, constants), path)
    return Artifact.of(path)


def images(folder: Path) -> tuple[Split, NDArray[np.int64]]:
    """Return a split of bright noise, and its activations as [positions, channels]."""
    generator = np.random.default_rng(0)
    values = generator.integers(90, 256, (IMAGES, 2, 3, 4), dtype=np.uint8)
    np.save(folder / "images.npy", values)
    np.save(folder / "labels.npy", np.zeros(IMAGES, np.int64))
    split = Split(
        name="calibration",
        images=Artifact.of(folder / "images.npy"),
        labels=Artifact.of(folder / "labels.npy"),
        count=IMAGES,
    )
    return split, values.reshape(-1, 4).astype(np.int64)


def test_the_layer_at_the_rails_is_named_and_measured(tmp_path: Path) -> None:
    data, activations = images(tmp_path)
    row = np.array([127, 120, -128, -5])

    found = audit_saturation(tmp_path, two_layers(tmp_path, row.tolist()), data)

    pairs = (activations * row).reshape(-1, 2, 2).sum(2)
    lost = pairs - np.clip(pairs, -(2**15), 2**15 - 1)
    assert found.images == IMAGES
    first, second = found.layers
    assert (first.name, first.safe, first.weight_bits) == ("first", True, 7)
    assert (first.risky_share, first.clipped_share, first.largest_error) == (0, 0, 0)
    assert (second.name, second.operator, second.weight_bits) == ("second", "Conv", 8)
    assert not second.safe
    assert second.risky_share == 2 / 4
    # The pairs of the other output count as well, and are never clipped.
    assert second.clipped_share == np.count_nonzero(lost) / (2 * pairs.size)
    assert np.count_nonzero(lost) > 10
    outputs = ((activations - 3) @ np.stack([row, [1, -1, 1, 0]]).T) * [0.25, 1.0]
    error = 0.25 * np.abs(lost.sum(1)).max() / np.abs(outputs).max()
    assert second.largest_error == pytest.approx(error, rel=1e-6)


def test_its_seven_bit_version_is_proven_safe(tmp_path: Path) -> None:
    data, _ = images(tmp_path)

    found = audit_saturation(tmp_path, two_layers(tmp_path, [64, 60, -64, -3]), data)

    assert found.images == 0  # nothing had to be measured
    assert found.layers[1] == LayerAudit(
        name="second",
        operator="Conv",
        weight_bits=7,
        safe=True,
        risky_share=0.0,
        clipped_share=0.0,
        largest_error=0.0,
    )


def test_without_images_a_risky_layer_has_no_measured_share(tmp_path: Path) -> None:
    found = audit_saturation(tmp_path, two_layers(tmp_path, [127, 127, 0, 0]), None)

    assert found.images == 0
    assert [layer.clipped_share for layer in found.layers] == [0.0, None]
    assert [layer.largest_error for layer in found.layers] == [0.0, None]
    assert found.layers[1].risky_share == 1 / 4


def test_a_risky_layer_that_dark_images_never_saturate(tmp_path: Path) -> None:
    data, activations = images(tmp_path)
    row = [127, 2, 0, 0]  # 129 * 255 is too much, 127 * 255 + 2 * 189 is not
    dark = np.minimum(activations, [255, 189, 255, 255]).astype(np.uint8)
    np.save(data.images.path, dark.reshape(IMAGES, 2, 3, 4))

    found = audit_saturation(tmp_path, two_layers(tmp_path, row), data).layers[1]

    assert (found.safe, found.clipped_share, found.largest_error) == (False, 0.0, 0.0)


def test_batches_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = images(tmp_path)
    model = two_layers(tmp_path, [127, 120, -128, -5])
    once = audit_saturation(tmp_path, model, data)
    monkeypatch.setattr(audit, "BATCH", 3)

    assert audit_saturation(tmp_path, model, data) == once


def test_images_that_do_not_fit_are_one_clear_error(tmp_path: Path) -> None:
    data, _ = images(tmp_path)
    np.save(data.images.path, np.zeros((2, 5, 5, 4), np.uint8))

    with pytest.raises(GraphError, match=r"does not take the images.*image"):
        audit_saturation(tmp_path, two_layers(tmp_path, [127, 127, 0, 0]), data)


def test_depthwise_layers_are_safe_whatever_their_weights() -> None:
    text = """g (uint8[N,2,4,4] p) => (float[N,2,a,b] y) {
        x = DequantizeLinear(p, s, z)
        w = DequantizeLinear(wq, s, none)
        y = Conv<group=2, kernel_shape=[1,2]>(x, w)
    }"""
    constants: dict[str, Array] = {
        "s": np.array(1, np.float32),
        "z": np.array(0, np.uint8),
        "none": np.array(0, np.int8),
        "wq": np.full((2, 1, 1, 2), 127, np.int8),
    }

    (layer,) = audit_weights(graph(text, constants))

    assert (layer.safe, layer.weight_bits) == (True, 8)


def test_float_layers_and_unsigned_weights_are_not_listed() -> None:
    text = """g (uint8[N,4] p, float[N,4] f) => (float[N,3] y, float[N,3] v) {
        x = DequantizeLinear(p, s, z)
        u = DequantizeLinear(wu, s, z)
        w = DequantizeLinear(wq, s, none)
        y = MatMul(x, u)
        v = MatMul(f, w)
    }"""
    constants: dict[str, Array] = {
        "s": np.array(1, np.float32),
        "z": np.array(0, np.uint8),
        "none": np.array(0, np.int8),
        "wu": np.full((4, 3), 255, np.uint8),
        "wq": np.full((4, 3), 127, np.int8),
    }

    assert audit_weights(graph(text, constants)) == ()


@pytest.mark.parametrize(
    ("name", "somewhere"),
    [
        ("cpu-int8", True),
        ("cpu-int8-avx2", True),
        ("cpu-int8-vnni", False),
        ("arm64-int8", False),
    ],
)
def test_which_targets_promise_a_cpu_that_saturates(name: str, somewhere: bool) -> None:
    assert saturates_somewhere(TARGETS[name]) == somewhere
