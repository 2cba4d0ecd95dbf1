"""Networks that are no classifiers: pruned by their weights alone, and on to an ONNX file."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from exporter.contract import INPUT_NAME, InputContract
from exporter.errors import ConfigError
from exporter.graph.export import export_module
from exporter.graph.model import read_onnx_model
from exporter.outputs import largest_difference, named_tensors
from exporter.pruning.groups import find_groups
from exporter.pruning.masks import zero_channels
from exporter.pruning.proof import random_pixels
from exporter.pruning.without_images import prune_without_images
from exporter.training.augmentation import normalise

SIDE = 64
CONTRACT = InputContract(height=SIDE, width=SIDE, classes=())
TOLERANCE = 1e-4


def detector_backbone() -> nn.Module:
    """Six feature maps by level, as the heads of the detector read them."""
    detector = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    backbone: nn.Module = detector.backbone
    return backbone


def segmentation() -> nn.Module:
    """A dictionary that holds a class for each pixel."""
    network: nn.Module = lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=5
    )
    return network


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "ssdlite320_mobilenet_v3_large": (detector_backbone, ("0", "1", "2", "3", "4", "5")),
    "lraspp_mobilenet_v3_large": (segmentation, ("out",)),
}


def alive(factory: Callable[[], nn.Module]) -> nn.Module:
    """Return the network with random weights through which signals neither fade nor explode."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = factory().eval()
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        module(random_pixels(CONTRACT))
    return module.eval()


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def outputs(module: nn.Module, pixels: Tensor) -> Mapping[str, Tensor]:
    return named_tensors(module(pixels))


@pytest.mark.parametrize("name", NETWORKS)
def test_masked_is_shrunk_and_the_file_computes_the_same(name: str, tmp_path: Path) -> None:
    factory, names = NETWORKS[name]
    dense = alive(factory)
    small, masked = copy.deepcopy(dense), copy.deepcopy(dense)

    kept = prune_without_images(small, CONTRACT, 0.5)
    zero_channels(masked, find_groups(masked, CONTRACT), kept)
    difference = export_module(small, CONTRACT, tmp_path / "small.onnx")

    pixels = random_pixels(CONTRACT)
    before = outputs(dense, pixels)
    after = outputs(small, pixels)
    assert tuple(after) == names
    assert largest_difference(after, outputs(masked, pixels)) < TOLERANCE
    assert largest_difference(after, before) > 0.01
    assert parameters(small) < 0.6 * parameters(dense)
    assert difference < TOLERANCE
    found = read_onnx_model(tmp_path / "small.onnx")
    assert found.contract == CONTRACT
    assert found.parameters < 1.1 * parameters(small)
    check_by_hand(tmp_path / "small.onnx", small, names)


def check_by_hand(path: Path, module: nn.Module, names: tuple[str, ...]) -> None:
    """Bytes in, the network's tensors out, for another number of images than was exported."""
    import onnxruntime as ort

    images = np.random.default_rng(4).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert tuple(output.name for output in session.get_outputs()) == names
    found = session.run(list(names), {INPUT_NAME: images})
    wanted = outputs(module, normalise(torch.from_numpy(images), CONTRACT))
    for tensor, expected in zip(found, wanted.values(), strict=True):
        assert np.abs(tensor - expected.numpy()).max() < TOLERANCE * float(expected.abs().max())


@pytest.mark.parametrize(
    ("criterion", "share", "told"),
    [("taylor", 0.5, "looks at images"), ("l2", 1.0, "0 to 0.99"), ("l2", -0.1, "0 to 0.99")],
)
def test_what_needs_images_or_leaves_nothing_is_refused(
    criterion: str, share: float, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        prune_without_images(nn.Conv2d(3, 8, 3), CONTRACT, share, criterion=criterion)


def test_names_follow_the_nesting() -> None:
    one, two, three = (torch.full((1,), float(value)) for value in range(3))
    nested = {"out": one, "levels": [two, {"deep": three}]}

    found = named_tensors(nested)

    assert {name: float(tensor) for name, tensor in found.items()} == {
        "out": 0.0, "levels_0": 1.0, "deep": 2.0,
    }  # fmt: skip
    assert list(named_tensors(one)) == ["output"]
    assert list(named_tensors("text")) == list(named_tensors(None)) == []


@pytest.mark.parametrize("order", list(itertools.permutations([0.5, float("nan"), 0.0])))
def test_a_difference_that_is_no_number_is_not_lost(order: tuple[float, ...]) -> None:
    wanted = [torch.ones(2) for _ in order]
    assert np.isnan(largest_difference([torch.ones(2) + value for value in order], wanted))


def test_differences_count_by_the_size_of_their_tensor() -> None:
    wanted = [torch.tensor([100.0, 1.0]), torch.tensor([1.0])]
    found = [torch.tensor([100.0, 2.0]), torch.tensor([1.5])]
    assert largest_difference(found, wanted) == pytest.approx(0.5)
