from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from exporter.artifacts import Cache
from exporter.checkpoint import save_checkpoint
from exporter.contract import InputContract
from exporter.errors import GraphError
from exporter.graph.export import TOLERANCE, export_module, export_onnx
from exporter.graph.metadata import read_metadata
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.models import build_model, find_model
from exporter.models.family import reference
from tests.graph import networks

ROUNDING = 1e-5
"""Two float32 sums of some hundred terms in different order, relative to the largest."""


@pytest.mark.parametrize("name", ["plain", "residual", "adaptive"])
def test_logits_are_torchs_for_any_batch(name: str, exports: Callable[[str], OnnxModel]) -> None:
    images = networks.pixels(5)
    expected = networks.torch_logits(networks.network(name), images)
    scale = np.abs(expected).max()

    model = exports(name)

    assert model.parity is not None
    assert 0 < model.parity < ROUNDING
    batch = networks.run(model.file.path, images)
    singles = [networks.run(model.file.path, images[i : i + 1]) for i in range(5)]
    assert batch.shape == expected.shape
    assert np.abs(batch - expected).max() < ROUNDING * scale
    assert np.abs(np.concatenate(singles) - batch).max() < ROUNDING * scale


def test_the_graph_is_the_network_and_nothing_else(plain: OnnxModel) -> None:
    model = onnx.load(plain.file.path)

    assert [(node.name, node.op_type) for node in model.graph.node] == [
        ("to_nchw", "Transpose"),
        ("normalize", "DequantizeLinear"),
        ("conv1", "Conv"),
        ("relu_0", "Relu"),
        ("maxpool_0", "MaxPool"),
        ("conv2", "Conv"),
        ("relu_1", "Relu"),
        ("maxpool_1", "MaxPool"),
        ("flatten_0", "Flatten"),
        ("hidden", "Gemm"),
        ("relu_2", "Relu"),
        ("head", "Gemm"),
    ]
    assert sorted(tensor.name for tensor in model.graph.initializer) == sorted(
        [
            *("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"),
            *("hidden.weight", "hidden.bias", "head.weight", "head.bias"),
            *("normalized_scale", "normalized_zero_point"),
        ]
    )
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version == 8


def test_nothing_in_the_file_tells_where_it_was_made(plain: OnnxModel) -> None:
    content = plain.file.path.read_bytes()

    for hint in (b"site-packages", b"torch.nn", b"forward", b"networks", b"stack_trace", b".py"):
        assert hint not in content
    assert [path.name for path in plain.file.path.parent.iterdir()] == ["model.onnx"]


def test_counts_are_those_of_the_folded_network(plain: OnnxModel) -> None:
    assert plain.parameters == (27 * 16 + 16) + (144 * 32 + 32) + (288 * 24 + 24) + (24 * 5 + 5)
    assert plain.macs == 144 * 27 * 16 + 36 * 144 * 32 + 288 * 24 + 24 * 5


def test_the_module_is_left_as_it_was_and_nothing_is_printed(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    module = networks.network("plain").train()
    module.get_submodule("norm1").eval()
    before = copy.deepcopy(module.state_dict())

    export_module(module, networks.CONTRACT, path)

    assert module.training
    assert not module.get_submodule("norm1").training
    assert module.get_submodule("norm2").training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_padding_that_stands_alone_goes_into_the_convolution(path: Path) -> None:
    module = nn.Sequential(
        nn.ZeroPad2d(1), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 144, 5)
    ).eval()

    assert export_module(module, networks.CONTRACT, path) < ROUNDING
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators == ["Transpose", "DequantizeLinear", "Conv", "Relu", "Flatten", "Gemm"]


class LooksAtPixels(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        if pixels.sum() > 0:
            pixels = pixels * 2
        return pixels.flatten(1)[:, :5]


class MixesImages(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        logits = pixels.flatten(1)[:, :5]
        return logits - logits.mean(0, keepdim=True)


class KnowsTheBatch(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.reshape(2, -1)[:, :5]


class NormsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 5, networks.SIDE)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.conv(nn.functional.relu(self.norm(pixels)))
        return logits.flatten(1)


class NormsFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3 * networks.SIDE**2)
        self.head = nn.Linear(3 * networks.SIDE**2, 5)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(nn.functional.relu(self.norm(pixels.flatten(1))))
        return logits


def test_a_batch_norm_in_front_of_an_activation_becomes_a_convolution(path: Path) -> None:
    assert export_module(networks.settled(NormsFirst), networks.CONTRACT, path) < ROUNDING

    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators == ["Transpose", "DequantizeLinear", "Conv", "Relu", "Conv", "Flatten"]


@pytest.mark.parametrize(
    ("factory", "hint"),
    [
        (LooksAtPixels, "LooksAtPixels"),
        (MixesImages, "differs from the network"),
        (KnowsTheBatch, "KnowsTheBatch"),
        (NormsFeatures, "batch-norm 'batchnormalization_0'"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    factory: type[nn.Module], hint: str, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(GraphError, match=hint) as refusal:
        export_module(networks.settled(factory), networks.CONTRACT, path)

    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


def test_as_many_logits_as_classes(path: Path) -> None:
    contract = InputContract(height=networks.SIDE, width=networks.SIDE, classes=("a", "b"))

    with pytest.raises(GraphError, match=r"outputs .* but must have .*logits"):
        export_module(networks.network("plain"), contract, path)


def test_weights_that_are_not_numbers_do_not_pass(path: Path) -> None:
    module = networks.network("plain")
    with torch.no_grad():
        module.get_parameter("head.bias")[0] = torch.nan

    with pytest.raises(GraphError, match=f"limit of {TOLERANCE:g}"):
        export_module(module, networks.CONTRACT, path)


def test_stage_exports_a_checkpoint(tmp_path: Path) -> None:
    contract = InputContract(height=32, width=32, classes=tuple("0123456789"))
    ref = reference(find_model("resnet8"), (), contract)
    checkpoint = save_checkpoint(tmp_path, build_model(ref, contract), ref, contract, {})
    cache = Cache(tmp_path / "cache")

    exported = cache.run(export_onnx, checkpoint)

    # MLPerf Tiny counts 78,666 parameters; 960 of them are batch-norm's, which is folded.
    assert exported.parameters == 77_706
    assert exported.macs == 12_501_632
    assert exported.contract == contract
    assert exported.parity is not None
    assert exported.parity < TOLERANCE
    read = read_onnx_model(exported.file.path)
    assert read == exported
    assert '"checkpoint"' in read_metadata(onnx.load(read.file.path))["digests"]
    assert cache.run(export_onnx, checkpoint) == exported
