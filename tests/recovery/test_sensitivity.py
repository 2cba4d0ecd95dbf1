from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper
from torch.nn import functional

from calibration import Ranges
from exporter.artifacts import Artifact
from exporter.data.splits import Split
from exporter.graph.count import count_macs
from exporter.graph.limits import read_model
from exporter.graph.model import OnnxModel
from exporter.quantization.layers import layers_of
from exporter.recovery.effect import effect
from exporter.recovery.sensitivity import QuantizationSensitivity, scan_layers, writers_of
from exporter.targets import find_target
from tests.graph import networks
from tests.quantization.conftest import Calibrator

Exports = Callable[[str], OnnxModel]
CPU = find_target("cpu-int8-vnni")
"""With 8 bits in all layers."""
IMAGES = 24


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("images")
    np.save(folder / "images.npy", networks.pixels(IMAGES))
    np.save(folder / "labels.npy", np.zeros(IMAGES, np.int64))
    return Split(
        name="calibration",
        images=Artifact.of(folder / "images.npy"),
        labels=Artifact.of(folder / "labels.npy"),
        count=IMAGES,
    )


@pytest.fixture(scope="module")
def model(exports: Exports) -> OnnxModel:
    return exports("plain")


@pytest.fixture(scope="module")
def ranges(model: OnnxModel, calibrated: Calibrator) -> Artifact:
    return calibrated(model)


@pytest.fixture(scope="module")
def scan(
    model: OnnxModel, ranges: Artifact, images: Split, tmp_path_factory: pytest.TempPathFactory
) -> QuantizationSensitivity:
    return scan_layers(tmp_path_factory.mktemp("scan"), CPU, model, ranges, images)


def tensors(graph: ModelProto) -> dict[str, NDArray[np.float32]]:
    return {entry.name: numpy_helper.to_array(entry) for entry in graph.graph.initializer}


def test_every_layer_is_scanned_in_order(scan: QuantizationSensitivity, model: OnnxModel) -> None:
    graph = read_model(model.file.path)
    assert [found.layer for found in scan.layers] == [layer.name for layer in layers_of(graph)]
    assert [found.operator for found in scan.layers] == ["Conv", "Conv", "Gemm", "Gemm"]
    assert scan.images == IMAGES
    assert sum(found.macs for found in scan.layers) == count_macs(graph) == model.macs
    names = [found.layer for found in scan.layers]
    assert [found.writers for found in scan.layers] == [(), *((name,) for name in names[:-1])]


def test_the_ranking_is_by_divergence(scan: QuantizationSensitivity) -> None:
    found = [layer.both.kl for layer in scan.ranked]
    assert found == sorted(found, reverse=True)
    assert found[-1] > 0


def test_pixels_lose_nothing_by_becoming_bytes(scan: QuantizationSensitivity) -> None:
    first = scan.layers[0]
    assert first.both == first.weights


def test_a_layer_alone_is_what_torch_and_numpy_compute(
    scan: QuantizationSensitivity, model: OnnxModel, ranges: Artifact
) -> None:
    """The second convolution, by hand."""
    graph = read_model(model.file.path)
    constants = tensors(graph)
    names = [
        [part for part in node.input if part in constants]
        for node in graph.graph.node
        if node.op_type in ("Conv", "Gemm")
    ]
    known = Ranges.from_json(ranges.path.read_text()).by_tensor
    second = [node for node in graph.graph.node if node.op_type == "Conv"][1]
    limits = known[second.input[0]]
    pixels = torch.from_numpy(networks.normalized(networks.pixels(IMAGES)))

    def logits(*, weights: bool, activations: bool) -> NDArray[np.float32]:
        values = [[torch.from_numpy(constants[n].copy()) for n in layer] for layer in names]
        if weights:
            kernel = values[1][0]
            step = kernel.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
            values[1][0] = (kernel / step).round() * step
        features = functional.conv2d(pixels, values[0][0], values[0][1], padding=1)
        features = functional.max_pool2d(functional.relu(features), 2)
        if activations:
            low, high = min(limits.low, 0.0), max(limits.high, 0.0)
            scale = (high - low) / 255
            zero = round(-low / scale)
            features = ((features / scale).round() + zero).clamp(0, 255).sub(zero) * scale
        features = functional.conv2d(features, values[1][0], values[1][1], padding=1)
        features = functional.max_pool2d(functional.relu(features), 2).flatten(1)
        features = functional.relu(functional.linear(features, *values[2]))
        return functional.linear(features, *values[3]).numpy()

    exact = logits(weights=False, activations=False)
    both = effect(exact, logits(weights=True, activations=True))
    weights = effect(exact, logits(weights=True, activations=False))

    assert scan.layers[1].both.logit_error == pytest.approx(both.logit_error, rel=0.05)
    assert scan.layers[1].weights.logit_error == pytest.approx(weights.logit_error, rel=0.05)
    assert scan.layers[1].both.kl == pytest.approx(both.kl, rel=0.1)
    assert scan.layers[1].weights.kl == pytest.approx(weights.kl, rel=0.1)
    assert both.logit_error > 1.2 * weights.logit_error


def test_both_sides_of_an_addition_write_what_follows(exports: Exports) -> None:
    graph = read_model(exports("residual").file.path)
    stem, conv1, conv2, head = (layer.name for layer in layers_of(graph))

    assert writers_of(graph, head) == (stem, conv2)
    assert writers_of(graph, conv1) == (stem,)
    assert writers_of(graph, stem) == ()


def test_a_broken_range_makes_its_layer_the_most_sensitive(
    model: OnnxModel, ranges: Artifact, images: Split, tmp_path: Path
) -> None:
    graph = read_model(model.file.path)
    last = [node for node in graph.graph.node if node.op_type == "Gemm"][-1]
    known = Ranges.from_json(ranges.path.read_text())
    wide = replace(known.by_tensor[last.input[0]], high=1e4)
    broken = replace(known, by_tensor={**known.by_tensor, last.input[0]: wide})
    (tmp_path / "broken.json").write_text(broken.to_json())

    scan = scan_layers(tmp_path, CPU, model, Artifact.of(tmp_path / "broken.json"), images)

    worst = scan.ranked[0]
    assert worst.layer == last.name
    assert worst.weights.kl < 0.1 * worst.both.kl
