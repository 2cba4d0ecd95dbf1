from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from exporter.contract import InputContract
from exporter.errors import GraphError
from exporter.graph.limits import read_model
from exporter.graph.model import OnnxModel
from exporter.quantization.aware.float_network import FloatNetwork
from exporter.quantization.aware.rounding import quantize as round_values
from exporter.quantization.aware.rounding import round_to, weight_scale
from exporter.quantization.aware.simulation import Simulation
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.targets import find_target
from exporter.training.augmentation import normalise
from tests.graph import networks
from tests.quantization.conftest import Calibrator

Exports = Callable[[str], OnnxModel]

IMAGES = networks.pixels(64, seed=5)
AGREEMENT = 0.995
"""Share of images for which torch and ONNX Runtime name the same class."""
FLIPS = 0.02
"""Largest difference of a logit where a few values are rounded the other way, relative to the
largest logit: sums in another order land on the other side of a half, and an average over 16 whole
numbers lies on it once in 16 times."""
FEW_FLIPS = 0.002
"""The mean of all differences."""
IN_FLOAT = {"session.disable_quant_qdq": "1"}
OWN_PIXELS = dataclasses.replace(
    networks.CONTRACT, mean=(120.0, 110.0, 100.0), std=(60.0, 55.0, 65.0)
)


def simulation_of(model: OnnxModel, int8: QuantizedModel) -> Simulation:
    return Simulation(
        read_model(int8.file.path),
        read_model(model.file.path),
        model.contract,
        seven_bit=frozenset(int8.seven_bit_layers),
    )


@torch.no_grad()
def logits_of(simulation: Simulation, contract: InputContract) -> NDArray[np.float32]:
    found: NDArray[np.float32] = simulation(normalise(torch.from_numpy(IMAGES), contract)).numpy()
    return found


@pytest.mark.parametrize("contract", [networks.CONTRACT, OWN_PIXELS], ids=["scalar", "mean"])
@pytest.mark.parametrize("target", ["cpu-int8", "cpu-int8-avx2"])
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_torch_computes_what_the_file_says(
    name: str, target: str, contract: InputContract, tmp_path: Path, calibrated: Calibrator
) -> None:
    model = networks.exported(networks.network(name), tmp_path / "float", contract)
    int8 = quantize(tmp_path, find_target(target), model, calibrated(model), "minmax")

    found = logits_of(simulation_of(model, int8), contract)

    wanted = networks.run(int8.file.path, IMAGES, settings=IN_FLOAT)
    kernels = networks.run(int8.file.path, IMAGES)
    largest = np.abs(wanted).max()
    assert np.abs(found - wanted).max() < FLIPS * largest
    by_kernels = np.abs(kernels - wanted).mean()  # ONNX Runtime's own two ways to compute it
    assert np.abs(found - wanted).mean() < 1.1 * by_kernels + FEW_FLIPS * largest
    assert (found.argmax(1) == kernels.argmax(1)).mean() >= AGREEMENT


@pytest.mark.parametrize("contract", [networks.CONTRACT, OWN_PIXELS], ids=["scalar", "mean"])
@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_float_file_is_its_network(name: str, contract: InputContract, tmp_path: Path) -> None:
    module = networks.network(name)
    model = networks.exported(module, tmp_path, contract)
    pixels = normalise(torch.from_numpy(IMAGES), contract)

    with torch.no_grad():
        found, wanted = FloatNetwork(read_model(model.file.path))(pixels), module(pixels)

    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_the_weights_of_the_float_file_learn(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("residual")
    int8 = quantize(tmp_path, find_target("cpu-int8"), model, calibrated(model), "minmax")
    simulation = simulation_of(model, int8)
    floating = {
        tensor.name: tensor.dims for tensor in read_model(model.file.path).graph.initializer
    }

    weights = simulation.learned_weights()

    layers = ("stem", "conv1", "conv2", "head")
    assert set(weights) == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    assert all(list(weights[name].shape) == list(floating[name]) for name in weights)
    functional.cross_entropy(
        simulation(normalise(torch.from_numpy(IMAGES), model.contract)),
        torch.arange(len(IMAGES)) % len(networks.CLASSES),
    ).backward()
    gradients = {name: parameter.grad for name, parameter in simulation.named_parameters()}
    assert all(
        gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients.values()
    )


def test_an_average_is_of_its_own_weights(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("plain")
    int8 = quantize(tmp_path, find_target("cpu-int8"), model, calibrated(model), "minmax")
    simulation = simulation_of(model, int8)
    twin = copy.deepcopy(simulation)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()

    assert np.abs(logits_of(simulation, model.contract)).max() > 0.1
    assert np.abs(logits_of(twin, model.contract)).max() == 0


def test_ranges_are_those_of_the_file(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("residual")
    int8 = quantize(tmp_path, find_target("cpu-int8"), model, calibrated(model), "minmax")

    ranges = simulation_of(model, int8).learned_ranges()

    assert all(low <= 0 <= high for low, high in ranges.values())
    assert ranges["relu_0"][0] == 0
    assert len(ranges) == 6


def test_weights_are_rounded_by_channel_to_even_and_stay_within_seven_bits() -> None:
    weight = torch.tensor([[64.0, 0.5, 1.5, -64.0], [0.0, 0.0, 0.0, 0.0], [-6.4, 0.05, 0.0, 3.2]])
    weight.requires_grad_()

    rounded = round_to(weight, weight_scale(weight, 0, 64))

    expected = torch.tensor([[64.0, 0.0, 2.0, -64.0], [0.0] * 4, [-6.4, 0.0, 0.0, 3.2]])
    torch.testing.assert_close(rounded.detach(), expected)
    rounded.sum().backward()
    torch.testing.assert_close(weight.grad, torch.ones_like(weight))


def test_the_slope_of_a_scale_is_that_of_lsq() -> None:
    """Esser et al. 2020, equation 3: -v/s + round(v/s) inside the range, its ends outside."""
    values = torch.tensor([-100.0, -1.2, 0.3, 2.6, 300.0])
    scale = torch.tensor(1.0, requires_grad=True)
    low, high = -128 - 10, 127 - 10
    slopes = []
    for value in values:
        found = (round_values(value, scale, 10, -128, 127) - 10) * scale
        slopes.append(float(torch.autograd.grad(found, scale)[0]))

    clipped = (values / 1.0).clamp(low, high)
    inside = (clipped == values).numpy()
    expected = np.where(inside, values.round() - values, clipped)
    np.testing.assert_allclose(slopes, expected, atol=1e-6)


def test_an_unknown_operator_is_named(
    tmp_path: Path, exports: Exports, calibrated: Calibrator
) -> None:
    model = exports("plain")
    int8 = quantize(tmp_path, find_target("cpu-int8"), model, calibrated(model), "minmax")
    graph = read_model(int8.file.path)
    next(node for node in graph.graph.node if node.op_type == "MaxPool").op_type = "LpPool"

    with pytest.raises(GraphError, match="cannot follow LpPool"):
        Simulation(graph, read_model(model.file.path), model.contract)
