"""Mean and deviation per channel: exact up to the border, in float and in integer kernels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from calibration import ArrayStream, collect_ranges
from exporter.artifacts import Artifact
from exporter.contract import InputContract
from exporter.graph.contract import attach_image, detach_image
from exporter.graph.export import export_module
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.graph.normalization import constant_pixel, use_scalar_normalization
from exporter.graph.wiring import Wiring
from exporter.normalization import NORMALIZATIONS, Normalization, normalized_by
from exporter.progress import Silent, shown_on
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.targets import find_target
from exporter.training.augmentation import normalise
from tests.graph import networks
from tests.graph.graphs import Array, evaluate, graph

EXACT = 2e-6
"""Of the largest logit: float32 sums in another order. A border off by the mean gives 1e-2."""
CONTRACT = normalized_by(networks.CONTRACT, NORMALIZATIONS["imagenet"])


class Stem(nn.Module):
    """One convolution on the pixels; every output pixel, the border's too, is an output."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.stem = convolution
        self.head = nn.LazyLinear(len(networks.CLASSES))
        self(torch.zeros(1, 3, networks.SIDE, networks.SIDE))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.stem(pixels)).flatten(1))
        return logits


class TwoStems(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.coarse = nn.Conv2d(3, 8, 5, padding=2)
        self.head = nn.Linear(8 * networks.SIDE**2, len(networks.CLASSES))

    def forward(self, pixels: Tensor) -> Tensor:
        features = torch.relu(self.fine(pixels) + self.coarse(pixels))
        logits: Tensor = self.head(features.flatten(1))
        return logits


class Pooled(nn.Module):
    """Something else than a convolution reads the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.head = nn.Linear(16 * 36, len(networks.CLASSES))

    def forward(self, pixels: Tensor) -> Tensor:
        features = torch.relu(self.stem(nn.functional.max_pool2d(pixels, 2)))
        logits: Tensor = self.head(features.flatten(1))
        return logits


STEMS: dict[str, Callable[[], nn.Module]] = {
    "padding 1": lambda: Stem(nn.Conv2d(3, 16, 3, padding=1)),
    "padding 3, stride 2": lambda: Stem(nn.Conv2d(3, 16, 7, stride=2, padding=3, bias=False)),
    "dilated": lambda: Stem(nn.Conv2d(3, 8, 3, padding=2, dilation=2)),
    "patches": lambda: Stem(nn.Conv2d(3, 16, 4, stride=4)),
    "two": TwoStems,
    "with batch-norm": networks.Plain,
}
STATED = {
    "imagenet": NORMALIZATIONS["imagenet"],
    "inception": NORMALIZATIONS["inception"],
    "far apart": Normalization(
        name="", summary="", scale=1.0, mean=(3.3, 250.0, 131.7), std=(4.0, 200.0, 60.0)
    ),
}


def exported(module: nn.Module, contract: InputContract, folder: Path) -> OnnxModel:
    return networks.exported(module, folder, contract)


@pytest.mark.parametrize("stem", list(STEMS))
@pytest.mark.parametrize("stated", list(STATED))
def test_the_file_computes_what_torch_does(stem: str, stated: str, tmp_path: Path) -> None:
    contract = normalized_by(networks.CONTRACT, STATED[stated])
    module = networks.settled(STEMS[stem])
    images = networks.pixels(4)
    images[0], images[1] = 0, 255
    with torch.inference_mode():
        expected = module(normalise(torch.from_numpy(images), contract)).numpy()

    model = exported(module, contract, tmp_path)

    found = networks.run(model.file.path, images)
    assert np.abs(found - expected).max() <= EXACT * np.abs(expected).max()
    assert model.parity is not None
    assert model.parity <= EXACT
    assert read_onnx_model(model.file.path).contract == contract
    graph = onnx.load(model.file.path).graph
    starts = [node.op_type for node in graph.node[:4]]
    assert starts == ["Transpose", "DequantizeLinear", "Add", "Conv"]

    core = onnx.load(model.file.path)
    detach_image(core, contract)
    assert use_scalar_normalization(core, contract) == {}
    onnx.checker.check_model(core, full_check=True)
    found = networks.run(core.SerializeToString(), four_channels(images, contract), "normalized")
    assert np.abs(found - expected).max() <= EXACT * np.abs(expected).max()


def four_channels(images: NDArray[np.uint8], contract: InputContract) -> NDArray[np.float32]:
    constant = np.full((*images.shape[:3], 1), constant_pixel(contract), np.uint8)
    bytes_ = np.concatenate([images, constant], 3).astype(np.float32)
    scaled = (bytes_ - contract.zero_point) * np.float32(contract.scale)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("stated", list(STATED))
def test_the_constants_kernel_costs_the_others_no_resolution(stated: str, tmp_path: Path) -> None:
    contract = normalized_by(networks.CONTRACT, STATED[stated])
    model = exported(networks.settled(STEMS["padding 1"]), contract, tmp_path)
    core = onnx.load(model.file.path)
    detach_image(core, contract)
    use_scalar_normalization(core, contract)
    weights = numpy_helper.to_array(Wiring.of(core.graph).constants["stem.weight"])
    assert weights.shape == (16, 4, 3, 3)
    largest = np.abs(weights).max((2, 3))
    assert (largest[:, 3] > 0).all()
    if stated != "far apart":  # there, no byte is far enough away
        assert (largest[:, 3] <= largest[:, :3].max(1)).all()


@pytest.mark.parametrize(
    ("mean", "zero_point", "constant"),
    [
        ((123.7, 116.3, 103.5), 116, 137),  # 7.7 + 0.3 + 12.5, rounded up
        ((127.5, 127.5, 127.5), 128, 130),
        ((250.0, 240.0, 230.0), 240, 220),
        ((-500.0, 128.0, 900.0), 128, 0),
        ((0.0, 100.0, 900.0), 100, 255),
        ((7.0, 7.0, 7.0), 7, 8),
    ],
)
def test_the_constant_is_as_far_from_the_zero_point_as_the_means_together(
    mean: tuple[float, ...], zero_point: int, constant: int
) -> None:
    contract = InputContract(
        height=4, width=4, zero_point=zero_point, mean=mean, std=(1.0, 1.0, 2.0), classes=("a",)
    )
    assert constant_pixel(contract) == constant


def test_a_file_from_before_there_were_means_is_read(tmp_path: Path) -> None:
    model = exported(networks.settled(STEMS["patches"]), networks.CONTRACT, tmp_path)
    file = onnx.load(model.file.path)
    for entry in file.metadata_props:
        if entry.key == "input":
            described = json.loads(entry.value)
            assert (described.pop("mean"), described.pop("std")) == ([], [])
            entry.value = json.dumps(described)
    onnx.save(file, tmp_path / "old.onnx")
    assert read_onnx_model(tmp_path / "old.onnx").contract == networks.CONTRACT


def test_nothing_is_added_where_one_scalar_says_it_all(tmp_path: Path) -> None:
    contract = normalized_by(networks.CONTRACT, NORMALIZATIONS["none"])
    model = exported(networks.settled(STEMS["padding 1"]), contract, tmp_path)
    graph = onnx.load(model.file.path).graph
    assert [node.op_type for node in graph.node[:3]] == ["Transpose", "DequantizeLinear", "Conv"]
    weights = Wiring.of(graph).constants["stem.weight"]
    assert list(weights.dims) == [16, 3, 3, 3]


def quantized(model: OnnxModel, folder: Path) -> QuantizedModel:
    stream = ArrayStream(samples=networks.pixels(32), input_name="image", batch_size=16)
    ranges = collect_ranges(model.file.path, stream, ["minmax"])["minmax"]
    file = folder / "minmax.json"
    file.write_text(ranges.to_json())
    out = folder / "int8"
    out.mkdir()
    return quantize(out, find_target("cpu-int8-vnni"), model, Artifact.of(file), "minmax")


@pytest.mark.parametrize("stem", ["padding 1", "padding 3, stride 2", "two"])
def test_the_quantized_file_starts_with_an_integer_convolution_on_bytes(
    stem: str, tmp_path: Path
) -> None:
    module = networks.settled(STEMS[stem])
    model = exported(module, CONTRACT, tmp_path)

    int8 = quantized(model, tmp_path)

    file = onnx.load(int8.file.path)
    assert [node.op_type for node in file.graph.node[:2]] == ["Pad", "Transpose"]
    assert file.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert int8.coverage.floating == {}
    images = networks.pixels(8, seed=2)
    expected = networks.run(model.file.path, images)
    difference = networks.run(int8.file.path, images) - expected
    # 8 bits: as much noise as a network with the scalar normalisation has. Without the constant
    # channel the logits would be off by several times this.
    assert np.sqrt(np.square(difference).mean()) < 0.02 * np.abs(expected).max()


class Listener(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def test_other_readers_get_a_multiplication_and_an_addition(tmp_path: Path) -> None:
    module = networks.settled(Pooled)
    model = exported(module, CONTRACT, tmp_path)
    assert model.parity is not None
    assert model.parity <= EXACT

    with shown_on(listener := Listener()):
        int8 = quantized(model, tmp_path)

    assert any("Not only convolutions read the pixels" in text for text in listener.messages)
    assert (int8.coverage.integer["QLinearMul"], int8.coverage.integer["QLinearAdd"]) == (1, 1)
    assert int8.coverage.floating == {}
    images = networks.pixels(8, seed=2)
    expected = networks.run(model.file.path, images)
    difference = networks.run(int8.file.path, images) - expected
    assert np.sqrt(np.square(difference).mean()) < 0.03 * np.abs(expected).max()


CORE = "g (float[N,3,2,4] normalized) => (float[N,24] logits) { logits = Flatten(normalized) }"


def test_attached_input_is_the_trainings_normalisation_and_comes_off_again() -> None:
    generator = np.random.default_rng(0)
    contract = InputContract(
        height=2, width=4, zero_point=100, mean=(90.0, 100.5, 110.0), std=(50.0, 60.0, 70.0),
        classes=("a",),
    )  # fmt: skip
    images = generator.integers(0, 256, (3, 2, 4, 3), dtype=np.uint8)
    expected = ((images - np.array(contract.mean)) / np.array(contract.std)).transpose(0, 3, 1, 2)
    model, before = graph(CORE), graph(CORE)

    attach_image(model, contract)

    onnx.checker.check_model(model, full_check=True)
    found = evaluate(model, image=images)
    np.testing.assert_allclose(found, expected.reshape(3, -1), rtol=1e-5, atol=1e-6)

    detach_image(model, contract)

    assert model.graph == before.graph


def test_a_weight_that_others_use_too_is_left_alone() -> None:
    text = """g (float[N,3,2,2] normalized) => (float[N,M] logits) {
        first = Conv(normalized, w)
        second = Conv(first, w)
        logits = Flatten(second)
    }"""
    weights: dict[str, Array] = {"w": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)}
    contract = InputContract(
        height=2, width=2, zero_point=7, mean=(1.0, 7.0, 9.0), std=(1.0, 2.0, 4.0), classes=("a",)
    )
    pixels = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2)
    core = graph(text, weights)
    exact = use_scalar_normalization(core, contract)
    mean, std = (np.array(x).reshape(3, 1, 1) for x in (contract.mean, contract.std))
    scalar = (pixels - contract.zero_point) * np.float32(contract.scale)
    np.testing.assert_allclose(
        evaluate(core, normalized=scalar)[0], ((pixels - mean) / std).ravel(), atol=1e-6
    )
    assert exact == {
        "normalized_scaled": (-7.0, 248.0),
        "normalized_shifted": (-3.5, 254.0),
    }


def test_a_network_that_flattens_first_works(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * networks.SIDE**2, len(networks.CLASSES)))
    assert export_module(module, CONTRACT, tmp_path / "model.onnx") <= EXACT
