"""torchvision's classifiers, pruned: masked = shrunk, and on to a quantized file that runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig

from calibration import ArrayStream, collect_ranges
from exporter.artifacts import Artifact
from exporter.contract import INPUT_NAME, InputContract
from exporter.graph.export import export_module
from exporter.graph.model import read_onnx_model
from exporter.pruning.groups import Group, find_coupling
from exporter.pruning.masks import zero_channels
from exporter.pruning.shrink import shrink_groups
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.targets import find_target
from tests.graph.networks import run

CLASSES = tuple("0123456789")
TOLERANCE = 1e-4
"""Float32 sums in another order through up to 121 layers, relative to the largest logit."""
KERNELS = 0.95
"""Least correlation of the logits by integer kernels with those of the same file computed in
float: whether ONNX Runtime does what the file says."""
CORRELATION = 0.5
"""Least correlation with the logits of the float file. In networks that nobody has trained, the
noise of 8-bit activations adds up from layer to layer."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is expected of a network."""

    prunable: float
    """Least share of the channels of all convolutions and linears that can be removed."""
    reasons: tuple[str, ...] = ()
    """Parts of the reasons why others stay, besides being an output."""
    options: dict[str, object] = field(default_factory=dict)
    side: int = 64


NETWORKS = {
    "resnet18": Known(prunable=0.9),
    "resnet50": Known(prunable=0.9),
    "mobilenet_v2": Known(prunable=0.9),
    "mobilenet_v3_small": Known(prunable=0.9),
    "squeezenet1_1": Known(prunable=0.9),
    "densenet121": Known(prunable=0.9),
    "shufflenet_v2_x1_0": Known(prunable=0.5, reasons=("a reshape from",)),
    "efficientnet_b0": Known(prunable=0.9),
    "googlenet": Known(prunable=0.9, options={"aux_logits": False, "init_weights": False}),
    "vgg11_bn": Known(prunable=0.9, side=32, options={"init_weights": False}),
    "regnet_y_400mf": Known(prunable=0.9),
    "mnasnet1_0": Known(prunable=0.9),
    "convnext_tiny": Known(
        prunable=0.5,
        reasons=("takes its mean over them",),
        options={"layer_scale": 0.5},  # 1e-6 in a fresh network: its blocks would not matter
    ),
}


def contract_of(name: str) -> InputContract:
    side = NETWORKS[name].side
    return InputContract(height=side, width=side, classes=CLASSES)


def network(name: str) -> nn.Module:
    """A network with random weights and batch-norms that have seen something like pixels."""
    factory = getattr(models, name)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module: nn.Module = factory(num_classes=len(CLASSES), **NETWORKS[name].options)
        return settled(module, pixels_of(name, count=8))


@torch.no_grad()
def settled(module: nn.Module, pixels: Tensor) -> nn.Module:
    """Give batch-norms random parameters and the statistics of ``pixels``; return it in eval mode.

    Statistics that fit keep the signal alive through a network that nobody has trained.
    """
    norms = [layer for layer in module.eval().modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.2)
        norm.train()
        norm.momentum = 1.0
    module(pixels)
    for norm in norms:
        variance = norm.get_buffer("running_var")
        # Channels that hardly vary would make much of rounding.
        variance += 0.05 * variance.mean()
    return module.eval()


def pixels_of(name: str, count: int = 2) -> Tensor:
    return normalised(patches(count, NETWORKS[name].side))


def patches(count: int, side: int) -> NDArray[np.uint8]:
    """Images of coloured patches. Noise would look the same to a network, image for image."""
    colours = np.random.default_rng(3).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return colours.repeat(side // 4, 1).repeat(side // 4, 2)


def normalised(images: NDArray[np.uint8]) -> Tensor:
    return (torch.from_numpy(images).float() - 128).permute(0, 3, 1, 2).contiguous() / 64


def remaining(groups: tuple[Group, ...], share: float) -> dict[str, tuple[int, ...]]:
    """Return what stays where a share of each group goes, by chance."""
    generator = torch.Generator().manual_seed(13)
    kept = {}
    for group in groups:
        order = torch.randperm(group.width, generator=generator).tolist()
        kept[group.name] = tuple(sorted(order[int(share * group.width) :]))
    return kept


def channels(module: nn.Module) -> int:
    return sum(
        len(layer.weight) for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    )


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_masked_and_shrunk_agree(name: str) -> None:
    module, pixels = network(name), pixels_of(name)
    dense = module(pixels)
    with torch.enable_grad():
        coupling = find_coupling(module, contract_of(name))

    assert {entry.reason for entry in coupling.fixed if "output" in entry.reason}
    for reason in NETWORKS[name].reasons:
        assert any(reason in entry.reason for entry in coupling.fixed)
    others = {entry.reason for entry in coupling.fixed if "output" not in entry.reason}
    assert bool(others) == bool(NETWORKS[name].reasons), others
    everything = channels(module)
    prunable = sum(group.width * group.step * len(group.producers) for group in coupling.groups)
    assert prunable > NETWORKS[name].prunable * everything
    for share in (0.3, 0.6):
        kept = remaining(coupling.groups, share)
        small = copy.deepcopy(module)
        zero_channels(small, coupling.groups, kept)  # what folded masks leave
        masked = small(pixels)
        shrink_groups(small, coupling.groups, kept)
        shrunk = small(pixels)
        scale = masked.abs().max()
        assert (masked - dense).abs().max() > 0.01 * scale
        assert (shrunk - masked).abs().max() < TOLERANCE * scale
        assert channels(small) < (1 - share * NETWORKS[name].prunable + 0.05) * everything


def check_files(module: nn.Module, contract: InputContract, folder: Path) -> QuantizedModel:
    """Half of every group goes; the file must be smaller, quantize, and run."""
    export_module(module, contract, folder / "dense.onnx")
    groups = find_coupling(module, contract).groups
    shrink_groups(module, groups, remaining(groups, 0.5))
    images = patches(8, contract.height)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        settled(module, normalised(images))
    small = folder / "small.onnx"
    export_module(module, contract, small)
    stream = ArrayStream(samples=images, input_name=INPUT_NAME, batch_size=4)
    ranges = folder / "ranges.json"
    ranges.write_text(collect_ranges(small, stream, ["minmax"])["minmax"].to_json())

    int8 = quantize(
        folder, find_target("cpu-int8"), read_onnx_model(small), Artifact.of(ranges), "minmax"
    )

    assert small.stat().st_size < 0.8 * (folder / "dense.onnx").stat().st_size
    logits, exact = run(int8.file.path, images), run(small, images)
    in_float = run(int8.file.path, images, settings={"session.disable_quant_qdq": "1"})
    assert logits.shape == (8, len(CLASSES))
    assert correlation(logits, in_float) > KERNELS
    assert correlation(logits, exact) > CORRELATION
    return int8


def correlation(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Of what tells images apart, not of what all of them have in common."""
    each = [logits - logits.mean(0) for logits in (found, wanted)]
    return float(np.corrcoef(each[0].ravel(), each[1].ravel())[0, 1])


# The same classes as in NETWORKS with few and narrow layers: what is written and quantized is of
# the same kinds, in seconds.
SMALL: dict[str, Callable[[], nn.Module]] = {
    "densenet": lambda: models.DenseNet(8, (2, 2), 16, num_classes=len(CLASSES)),
    "shufflenet": lambda: models.ShuffleNetV2(
        [2, 1, 1], [8, 16, 32, 64, 64], num_classes=len(CLASSES)
    ),
    "mobilenet": lambda: models.MobileNetV3(
        [
            InvertedResidualConfig(16, 3, 16, 16, True, "RE", 2, 1, 1),
            InvertedResidualConfig(16, 5, 48, 24, True, "HS", 2, 1, 1),
            InvertedResidualConfig(24, 5, 48, 24, True, "HS", 1, 1, 1),
        ],
        last_channel=64,
        num_classes=len(CLASSES),
    ),
    "convnext": lambda: models.ConvNeXt(
        [CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)],
        layer_scale=0.5,
        num_classes=len(CLASSES),
    ),
}
STAYS_FLOAT = {
    "convnext": {"Gelu", "LayerNormalization"},
    "vgg11": {"GatherND", "ReduceMean"},  # its pool to 7 x 7, where the image is smaller than 224
}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_network_of_the_kind_quantizes_and_runs(name: str, tmp_path: Path) -> None:
    contract = InputContract(height=32, width=32, classes=CLASSES)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = settled(SMALL[name](), normalised(patches(8, 32)))

    int8 = check_files(module, contract, tmp_path)

    assert set(int8.coverage.reasons) == STAYS_FLOAT.get(name, set())


@pytest.mark.minutes
@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_quantizes_and_runs(name: str, tmp_path: Path) -> None:
    int8 = check_files(network(name), contract_of(name), tmp_path)

    assert int8.file.path.stat().st_size < 0.5 * (tmp_path / "small.onnx").stat().st_size
    assert set(int8.coverage.reasons) == STAYS_FLOAT.get(name.split("_")[0], set())
