"""Tiny networks with every operator that matters, and their exported files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from exporter.contract import INPUT_NAME, OUTPUT_NAME, InputContract
from exporter.graph.export import export_module
from exporter.graph.model import OnnxModel, read_onnx_model

SIDE = 12
CLASSES = ("ant", "bee", "cat", "dog", "elk")
CONTRACT = InputContract(height=SIDE, width=SIDE, classes=CLASSES)
Activation = Callable[[Tensor], Tensor]


class Plain(nn.Module):
    """Convolutions with batch-norm and max pooling, two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.hidden = nn.Linear(32 * 3 * 3, 24)
        self.head = nn.Linear(24, len(CLASSES))

    def forward(self, pixels: Tensor) -> Tensor:
        features = functional.max_pool2d(functional.relu(self.norm1(self.conv1(pixels))), 2)
        features = functional.max_pool2d(functional.relu(self.norm2(self.conv2(features))), 2)
        logits: Tensor = self.head(functional.relu(self.hidden(features.flatten(1))))
        return logits


class Residual(nn.Module):
    """A residual block; activation and final pool are free."""

    def __init__(
        self, activation: Activation = functional.relu, pool: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.conv1 = nn.Conv2d(16, 16, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.pool = pool or nn.AvgPool2d(4)
        features = 16 if isinstance(pool, nn.AdaptiveAvgPool2d) else 16 * 9
        self.head = nn.Linear(features, len(CLASSES))
        self.activation = activation

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.activation(self.norm(self.stem(pixels)))
        inner = self.conv2(self.activation(self.norm1(self.conv1(features))))
        features = self.pool(self.activation(inner + features))
        logits: Tensor = self.head(features.flatten(1))
        return logits


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": Plain,
    "residual": Residual,
    "adaptive": lambda: Residual(pool=nn.AdaptiveAvgPool2d(1)),
    "hardswish": lambda: Residual(activation=functional.hardswish),
}


def network(name: str, seed: int = 0) -> nn.Module:
    """Return a network in eval mode whose batch-norms have seen something."""
    return settled(NETWORKS[name], seed)


def settled(factory: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = factory()
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.running_mean, 0, 0.2)  # type: ignore[arg-type]
                nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0, 0.2)
    return module.eval()


def exported(module: nn.Module, folder: Path, contract: InputContract = CONTRACT) -> OnnxModel:
    folder.mkdir(parents=True, exist_ok=True)
    parity = export_module(module, contract, folder / "model.onnx")
    return replace(read_onnx_model(folder / "model.onnx"), parity=parity)


def pixels(count: int, seed: int = 1) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def normalized(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = (images.astype(np.float32) - CONTRACT.zero_point) * np.float32(CONTRACT.scale)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def torch_logits(module: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        logits: NDArray[np.float32] = module(torch.from_numpy(normalized(images))).numpy()
    return logits


def run(
    model: Path | bytes,
    images: NDArray[np.generic],
    input_name: str = INPUT_NAME,
    settings: Mapping[str, str] | None = None,
) -> NDArray[np.float32]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    for key, value in (settings or {}).items():
        options.add_session_config_entry(key, value)
    source = model if isinstance(model, bytes) else str(model)
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run([OUTPUT_NAME], {input_name: images})[0]
    return logits
