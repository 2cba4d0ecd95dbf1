"""What is traced, against networks small enough to list by hand."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from exporter.contract import InputContract
from exporter.models import MODELS
from exporter.models.family import ModelRef, build_model
from exporter.pruning.layer_shapes import LayerShape
from exporter.pruning.layer_trace import trace_layers

CONTRACT = InputContract(height=32, width=32, classes=tuple("0123456789"))


def traced(name: str) -> list[str]:
    module = build_model(ModelRef(name=name, widths=MODELS[name].widths), CONTRACT)
    return [str(layer) for layer in trace_layers(module, CONTRACT)]


def test_edge_vgg_layer_by_layer() -> None:
    assert traced("edge-vgg") == [
        "conv 3>24 32x32>31x31 kernel 2x2",
        "conv 24>32 31x31>31x31 kernel 3x3 padding 1x1",
        "max-pool 32>32 31x31>15x15 kernel 2x2 stride 2x2",
        "conv 32>32 15x15>15x15 kernel 3x3 padding 1x1",
        "conv 32>128 15x15>15x15 kernel 3x3 padding 1x1",
        "max-pool 128>128 15x15>7x7 kernel 2x2 stride 2x2",
        "conv 128>128 7x7>7x7 kernel 3x3 padding 1x1",
        "conv 128>128 7x7>7x7 kernel 3x3 padding 1x1",
        "max-pool 128>128 7x7>3x3 kernel 2x2 stride 2x2",
        "conv 128>128 3x3>3x3 kernel 3x3 padding 1x1",
        "max-pool 128>128 3x3>1x1 kernel 3x3 stride 3x3",
        "linear 128>10 1x1>1x1",
    ]


def test_a_residual_sum_is_a_layer_and_a_strided_shortcut_too() -> None:
    layers = traced("resnet8")
    assert [layer for layer in layers if layer.startswith("add")] == [
        "add 16>16 32x32>32x32",
        "add 32>32 16x16>16x16",
        "add 64>64 8x8>8x8",
    ]
    assert "conv 16>32 32x32>16x16 stride 2x2" in layers
    assert "conv 16>32 32x32>16x16 kernel 3x3 stride 2x2 padding 1x1" in layers
    assert layers[-2:] == [
        "average-pool 64>64 8x8>1x1 kernel 8x8 stride 8x8",
        "linear 64>10 1x1>1x1",
    ]


def test_lining_up_pixels_is_a_layer_where_there_are_several() -> None:
    assert traced("simple-cnn")[-3:] == [
        "flatten 128>8192 8x8>1x1",
        "linear 8192>1024 1x1>1x1",
        "linear 1024>10 1x1>1x1",
    ]


def test_a_mean_per_channel_brings_a_fourth_channel() -> None:
    contract = dataclasses.replace(CONTRACT, mean=(1.0, 2.0, 3.0), std=(60.0, 60.0, 60.0))
    module = build_model(ModelRef(name="simple-cnn", widths=(4, 3, 8)), CONTRACT)
    assert [str(layer) for layer in trace_layers(module, contract)][:3] == [
        "pad 3>4 32x32>32x32",
        "conv 4>4 32x32>32x32 kernel 3x3 padding 1x1",
        "max-pool 4>4 32x32>16x16 kernel 2x2 stride 2x2",
    ]


class _Unusual(nn.Module):
    """Grouped, dilated, rectangular, rounded up, called as functions; and what is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(3, 6, (3, 5), padding=(1, 2), dilation=(2, 1), groups=3)
        self.norm = nn.BatchNorm2d(6)
        self.matrix = nn.Parameter(torch.zeros(6, 4))

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.norm(self.grouped(pixels)) + 1
        features = nn.functional.max_pool2d(features.relu(), 3, 2, 1, ceil_mode=True)
        features = nn.functional.adaptive_avg_pool2d(features, 1)
        return features.flatten(1) @ self.matrix


def test_all_that_decides_the_time_is_noted() -> None:
    contract = InputContract(height=10, width=12, classes=("a", "b", "c", "d"))
    module = _Unusual().train()
    assert [str(layer) for layer in trace_layers(module, contract)] == [
        "conv 3>6 10x12>8x12 kernel 3x5 padding 1x2 dilation 2x1 groups 3",
        "max-pool 6>6 8x12>5x7 kernel 3x3 stride 2x2 padding 1x1",
        "global-average-pool 6>6 5x7>1x1",
        "linear 6>4 1x1>1x1",
    ]
    assert module.training


class _Branches(nn.Module):
    """What newer networks do beside convolutions."""

    def forward(self, pixels: Tensor) -> Tensor:
        gate = nn.functional.hardsigmoid(pixels.mean((2, 3), keepdim=True))
        wide = torch.cat([nn.functional.silu(pixels * gate), nn.functional.hardswish(pixels)], 1)
        mixed = wide.view(1, 2, 3, 4, 4).transpose(1, 2).reshape(1, 6, 4, 4)
        return torch.sigmoid(mixed * 2)


def test_branches_and_activations_are_layers() -> None:
    contract = InputContract(height=4, width=4, classes=("a", "b"))
    assert [str(layer) for layer in trace_layers(_Branches(), contract)] == [
        "global-average-pool 3>3 4x4>1x1",
        "hard-sigmoid 3>3 1x1>1x1",
        "multiply 3>3 4x4>4x4",
        "silu 3>3 4x4>4x4",
        "hard-swish 3>3 4x4>4x4",
        "concat 3>6 4x4>4x4 groups 2",
        "shuffle 6>6 4x4>4x4 groups 2",
        "sigmoid 6>6 4x4>4x4",
    ]


def test_equal_text_is_an_equal_shape() -> None:
    first, second = (
        LayerShape(kind="conv", inputs=3, outputs=8, size=(4, 4), out_size=(4, 4), groups=groups)
        for groups in (1, 3)
    )
    assert str(first) != str(second)
