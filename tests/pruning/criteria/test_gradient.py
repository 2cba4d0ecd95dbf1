"""gradient, taylor and fisher against autograd used another way, and against loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from exporter.pruning.criteria import CRITERIA
from exporter.pruning.scores import score_channels
from tests.pruning.criteria.networks import (
    channel_scores,
    group_of,
    random_batches,
    residual,
    simple,
    weight_scores,
)

BATCHES = random_batches(6, 6, 3)
NETWORKS = pytest.mark.parametrize(
    ("make", "name"), [(simple, "conv1"), (simple, "conv2"), (residual, "stem")]
)


def test_gradient_is_the_mean_over_batches_of_its_size() -> None:
    module = simple()
    total = torch.zeros_like(module.conv1.weight)
    for pixels, labels in BATCHES:
        loss = functional.cross_entropy(module(pixels), labels)
        (gradient,) = torch.autograd.grad(loss, module.conv1.weight)
        total += gradient.abs() / len(BATCHES)
    scores = channel_scores("gradient", module, "conv1", BATCHES)
    assert scores == pytest.approx(total.flatten(1).mean(1).tolist(), rel=1e-4)
    single = weight_scores("gradient", module, "conv1", BATCHES)
    assert torch.allclose(single, total.double(), rtol=1e-4)


def loss_with_gates(module: nn.Module, name: str, pixels: Tensor, labels: Tensor) -> list[float]:
    """Derivatives of the loss by a factor on each channel, as the group's consumers read it."""
    group = group_of(module, name)
    gates = torch.ones(group.width, requires_grad=True)
    handles = []
    for tied in group.consumers:

        def gate(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
            (read,) = inputs
            if read.ndim == 4:
                return (read * gates[None, :, None, None],)
            return (read * gates.repeat_interleave(read.shape[1] // len(gates)),)

        handles.append(module.get_submodule(tied.layer).register_forward_pre_hook(gate))
    (derivatives,) = torch.autograd.grad(functional.cross_entropy(module(pixels), labels), gates)
    for handle in handles:
        handle.remove()
    numbers: list[float] = derivatives.tolist()
    return numbers


@NETWORKS
def test_taylor_is_the_squared_derivative_by_a_gate(
    make: Callable[[], nn.Module], name: str
) -> None:
    module = make()
    derivatives = [loss_with_gates(module, name, pixels, labels) for pixels, labels in BATCHES]
    expected = np.mean(np.square(derivatives), axis=0).tolist()
    assert channel_scores("taylor", module, name, BATCHES) == pytest.approx(expected, rel=1e-3)


def test_taylor_foresees_what_a_small_change_of_a_channel_does_to_the_loss() -> None:
    group = group_of(simple(), "conv1")
    ((pixels, labels),) = random_batches(15)
    step = 1e-5
    wide = [(pixels.double(), labels)]
    scores = score_channels(CRITERIA["taylor"], simple().double(), [group], wide)["conv1"]

    def loss(channel: int, factor: float) -> float:
        changed = simple().double()
        with torch.no_grad():
            changed.conv2.weight[:, channel] *= factor
            return float(functional.cross_entropy(changed(pixels.double()), labels))

    for channel in range(4):
        slope = (loss(channel, 1 + step) - loss(channel, 1 - step)) / (2 * step)
        assert float(scores[channel]) == pytest.approx(slope**2, rel=1e-4)


def test_taylor_of_single_weights() -> None:
    module = simple()
    total = torch.zeros_like(module.fc2.weight)
    for pixels, labels in BATCHES:
        loss = functional.cross_entropy(module(pixels), labels)
        (gradient,) = torch.autograd.grad(loss, module.fc2.weight)
        total += (gradient * module.fc2.weight.detach()) ** 2 / len(BATCHES)
    scores = weight_scores("taylor", module, "fc2", BATCHES)
    assert torch.allclose(scores, total.double(), rtol=1e-3, atol=0)


def sample_gradients(module: nn.Module, layer: str) -> NDArray[np.float64]:
    """dL/dw of every image by itself, ``[N, *weight]``, by another way than a loop."""
    parameters = {name: value.detach() for name, value in module.named_parameters()}
    buffers = dict(module.named_buffers())

    def loss(changed: dict[str, Tensor], pixels: Tensor, label: Tensor) -> Tensor:
        logits: Tensor = functional_call(module, {**changed, **buffers}, (pixels[None],))
        return functional.cross_entropy(logits, label[None])

    pixels = torch.cat([pixels for pixels, _ in BATCHES])
    labels = torch.cat([labels for _, labels in BATCHES])
    found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, pixels, labels)
    gradients: NDArray[np.float64] = found[f"{layer}.weight"].double().numpy()
    return gradients


@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc1", "fc2"])
def test_fisher_of_single_weights(layer: str) -> None:
    module = simple()
    weight = module.get_parameter(f"{layer}.weight").detach().double().numpy()
    expected = weight**2 * (sample_gradients(module, layer) ** 2).mean(0) / 2
    scores = weight_scores("fisher", module, layer, BATCHES).numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-12)


def test_fisher_of_channels_sums_over_the_weights_that_read_them() -> None:
    module = residual()
    squares = {layer: (sample_gradients(module, layer) ** 2).mean(0) for layer in ("inner", "head")}
    inner = module.inner.weight.detach().double().numpy()
    head = module.head.weight.detach().double().numpy()
    scores = channel_scores("fisher", module, "stem", BATCHES)
    for channel in range(4):
        total = 0.0
        for out in range(4):
            for y in range(3):
                for x in range(3):
                    place = (out, channel, y, x)
                    total += inner[place] ** 2 * squares["inner"][place] / 2
        for out in range(3):
            for pixel in range(16 * channel, 16 * channel + 16):
                total += head[out, pixel] ** 2 * squares["head"][out, pixel] / 2
        assert scores[channel] == pytest.approx(total, rel=1e-3)


def test_the_square_of_a_batchs_gradient_is_not_fisher() -> None:
    """Images that pull a weight in opposite directions still say that it matters."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.Linear(1, 2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(0.5)
    pixels, labels = torch.ones(2, 1, 1, 1), torch.tensor([0, 1])
    fisher = weight_scores("fisher", module, "2", [(pixels, labels)])
    taylor = weight_scores("taylor", module, "2", [(pixels, labels)])
    assert taylor.max() < 1e-12
    # p = 1/2, so dL/dw = (p - y) * input = -1/2 or 1/2 times 1; w^2 * g^2 / 2 = 1/32.
    assert fisher.flatten().tolist() == pytest.approx([1 / 32, 1 / 32])
