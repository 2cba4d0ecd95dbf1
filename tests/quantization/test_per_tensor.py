from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from calibration import METHODS, ArrayStream, Range, Ranges, collect_ranges
from exporter.config import CalibrationConfig
from exporter.data.splits import Splits
from exporter.errors import ConfigError
from exporter.graph.limits import read_model
from exporter.graph.model import OnnxModel
from exporter.quantization.calibrate import calibrate, methods_of
from exporter.quantization.per_tensor import PER_TENSOR, choose_per_tensor, rounded_tensors
from exporter.quantization.quantize import quantize
from exporter.targets import find_target
from tests.graph import networks

HIDDEN = 8
IMAGES = 24


class Pointwise(nn.Module):
    """1x1 convolutions, whose sums numpy writes in a line; one hidden channel is rarely loud."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, HIDDEN, 1)
        self.second = nn.Conv2d(HIDDEN, len(networks.CLASSES), 1)
        self.pool = nn.AvgPool2d(networks.SIDE)
        with torch.no_grad():
            self.first.weight[0] *= 12
            self.first.bias[0] = -14  # type: ignore[index]
            self.second.weight[:, 0] *= 0.05

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.pool(self.second(torch.relu(self.first(pixels)))).flatten(1)
        return logits


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return networks.settled(Pointwise)


@pytest.fixture(scope="module")
def model(module: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return networks.exported(module, tmp_path_factory.mktemp("pointwise"))


@pytest.fixture(scope="module")
def by_method(model: OnnxModel) -> dict[str, Ranges]:
    stream = ArrayStream(samples=networks.pixels(IMAGES), input_name="image", batch_size=8)
    return dict(collect_ranges(model.file.path, stream, list(METHODS)))


def rounded(values: np.ndarray, found: Range) -> np.ndarray:
    scale = np.float32((found.high - found.low) / 255)
    zero_point = np.rint(-found.low / scale)
    return np.asarray((np.clip(np.rint(values / scale) + zero_point, 0, 255) - zero_point) * scale)


def test_the_choice_is_that_of_the_same_sums_in_numpy(
    module: nn.Module, model: OnnxModel, by_method: dict[str, Ranges]
) -> None:
    w1, w2 = (layer.weight.detach().numpy()[:, :, 0, 0] for layer in (module.first, module.second))  # type: ignore[union-attr,operator]
    b1, b2 = (layer.bias.detach().numpy() for layer in (module.first, module.second))  # type: ignore[union-attr,operator]
    pixels = networks.normalized(networks.pixels(IMAGES))
    hidden = np.maximum(np.einsum("oc,nchw->nohw", w1, pixels) + b1[:, None, None], 0)
    maps = np.einsum("oc,nchw->nohw", w2, hidden) + b2[:, None, None]
    logits = maps.mean((2, 3))

    def error(found: np.ndarray) -> float:
        return float(np.square(found - logits).sum())

    def by_hidden(found: Range) -> float:
        after = np.einsum("oc,nchw->nohw", w2, rounded(hidden, found)) + b2[:, None, None]
        return error(after.mean((2, 3)))

    def by_maps(found: Range) -> float:
        return error(rounded(maps, found).mean((2, 3)))

    names = rounded_tensors(read_model(model.file.path))
    chosen = choose_per_tensor(model.file.path, by_method, networks.pixels(IMAGES))

    assert chosen.method == PER_TENSOR
    for name, judge in zip(names[:2], (by_hidden, by_maps), strict=True):
        errors = {method: judge(ranges.by_tensor[name]) for method, ranges in by_method.items()}
        best = min(errors, key=errors.__getitem__)
        assert len({round(value, 9) for value in errors.values()}) > 1, "there is a choice"
        assert chosen.by_tensor[name] == by_method[best].by_tensor[name]
    others = set(chosen.by_tensor) - set(names)
    assert all(chosen.by_tensor[name] == by_method["minmax"].by_tensor[name] for name in others)


def test_what_a_relu_reads_alone_and_outputs_are_not_rounded(model: OnnxModel) -> None:
    graph = read_model(model.file.path)
    kinds = {name: node.op_type for node in graph.graph.node for name in node.output}
    found = rounded_tensors(graph)
    assert [kinds[name] for name in found][:2] == ["Relu", "Conv"]
    assert "logits" not in found
    assert not {"normalized", "image_nchw"} & set(found)


def test_it_is_a_method_like_others_for_all_that_follows(
    tmp_path: Path, splits: Splits, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = CalibrationConfig(method=PER_TENSOR)
    assert methods_of(config) == tuple(METHODS)
    with pytest.raises(ConfigError, match="Or auto, per-tensor"):
        methods_of(CalibrationConfig(method="per-layer"))
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(18), nn.Flatten(), nn.Linear(8, 3)
    )
    model = networks.exported(net.eval(), tmp_path_factory.mktemp("net"), splits.contract)

    ranges = calibrate(tmp_path, config, model, splits.calibration)

    assert list(ranges.by_method) == [PER_TENSOR]
    assert ranges.by_method[PER_TENSOR].path.name == "per-tensor.json"
    (tmp_path / "int8").mkdir()
    artifact = ranges.by_method[PER_TENSOR]
    int8 = quantize(tmp_path / "int8", find_target("cpu-int8"), model, artifact, PER_TENSOR)
    assert int8.method == PER_TENSOR
