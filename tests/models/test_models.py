"""Contracts over the table of networks, and the figures their sources state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from exporter.contract import InputContract
from exporter.errors import ModelError
from exporter.models import MODELS, build_model, find_model
from exporter.models.edge_vgg import EdgeVGG
from exporter.models.family import Family, FitsData, ModelRef, reference

TEN = tuple("abcdefghij")


def contract(height: int, width: int, classes: tuple[str, ...] = TEN) -> InputContract:
    return InputContract(height=height, width=width, classes=classes)


@pytest.mark.parametrize("family", MODELS.values(), ids=list(MODELS))
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 40)])
def test_any_image_size_and_class_count(family: Family, size: tuple[int, int]) -> None:
    data = contract(*size, classes=("a", "b", "c"))
    module = build_model(reference(family, (), data), data).eval()
    assert module(torch.zeros(2, 3, *size)).shape == (2, 3)


@pytest.mark.parametrize("family", MODELS.values(), ids=list(MODELS))
def test_the_smallest_image_works_and_a_smaller_one_is_refused(family: Family) -> None:
    side = family.smallest_side
    data = contract(side, side)
    module = build_model(reference(family, (), data), data).eval()
    assert module(torch.zeros(1, 3, side, side)).shape == (1, 10)
    with pytest.raises(ModelError, match=f"at least {side} pixels"):
        reference(family, (), contract(side - 1, 32))


@pytest.mark.parametrize("family", MODELS.values(), ids=list(MODELS))
def test_widths_are_honoured_or_refused(family: Family) -> None:
    data = contract(32, 32)
    narrow = build_model(reference(family, (8, 16, 24), data), data)
    wide = build_model(reference(family, (), data), data)
    assert sum(p.numel() for p in narrow.parameters()) < sum(p.numel() for p in wide.parameters())
    for widths in ((8, 16), (8, 16, 0)):
        with pytest.raises(ModelError, match="takes 3 positive numbers"):
            reference(family, widths, data)


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="edge-vgg, resnet8, simple-cnn"):
        find_model("resnet9")


def test_resnet8_has_the_parameters_of_mlperf_tiny() -> None:
    module = build_model(ModelRef(name="resnet8", widths=(16, 32, 64)), contract(32, 32))
    learned = sum(parameter.numel() for parameter in module.parameters())
    statistics = sum(
        norm.running_mean.numel() + norm.running_var.numel()
        for norm in module.modules()
        if isinstance(norm, nn.BatchNorm2d)
        and norm.running_mean is not None
        and norm.running_var is not None
    )
    assert learned + statistics == 78_666  # Keras' count_params includes moving statistics


def test_simple_cnn_is_the_articles_network() -> None:
    module = build_model(ModelRef(name="simple-cnn", widths=(64, 128, 1024)), contract(32, 32))
    by_hand = (3 * 9 + 1) * 64 + (64 * 9 + 1) * 128 + (128 * 64 + 1) * 1024 + 1025 * 10
    assert sum(parameter.numel() for parameter in module.parameters()) == by_hand


def test_edge_vggs_stem_whitens() -> None:
    torch.manual_seed(0)
    module = EdgeVGG(widths=(8, 8, 8), classes=3, height=20, width=20)
    mixing = torch.randn(3, 3)
    pixels = torch.einsum("ij,njhw->nihw", mixing, torch.randn(200, 3, 20, 20)) + 0.5
    assert isinstance(module, FitsData)
    module.fit_stem(pixels)
    responses = module.whiten(pixels)[:, :12].transpose(0, 1).flatten(1)
    moments = responses @ responses.T / responses.shape[1]
    assert torch.allclose(moments, torch.eye(12), atol=0.02)


def test_edge_vggs_two_orders_of_pooling_agree() -> None:
    """Training pools before batch-norm, inference after; with fixed statistics they are equal."""
    torch.manual_seed(0)
    module = EdgeVGG(widths=(8, 16, 16), classes=3, height=20, width=20).eval()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.bias)
            norm.running_mean = torch.randn(norm.num_features)
            norm.running_var = torch.rand(norm.num_features) + 0.5
            norm.weight.data[0] = 0  # as after pruning
    pixels = torch.randn(4, 3, 20, 20)
    inference = module(pixels)
    for block in module.blocks:
        block.training = True  # the block's order changes, its batch-norms stay in eval mode
    assert torch.allclose(module(pixels), inference, atol=1e-5)
