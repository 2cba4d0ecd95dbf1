"""A network at the rails: what 16-bit sums cost on x86 CPUs without VNNI, and who knew.

A small network learns scikit-learn's digits with weights of -1 and 1 (BinaryConnect, Courbariaux
2015, arXiv 1511.00363) and activations that are clipped at 1, so that in int8 nearly every weight
is -127 or 127 and many activations are 255. It is quantized twice, with full-range weights and for
``cpu-int8``, and both files classify the test images here and on an emulated CPU that has AVX2 and
no VNNI. Beside them stands what the audit says of the full-range file, without any such CPU.

Usage::

    python -m benchmarks.saturation [--epochs 30] [--cache FOLDER] [--json FILE]

Needs ``exporter setup-emulation``.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from exporter.artifacts import Artifact, Cache
from exporter.config import CalibrationConfig, DataConfig
from exporter.contract import InputContract
from exporter.data.load import load_splits
from exporter.data.splits import Split
from exporter.emulation.emulator import find_emulator
from exporter.emulation.predict import predict_emulated
from exporter.graph.export import export_module
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.quantization.audit import audit_saturation
from exporter.quantization.calibrate import calibrate
from exporter.quantization.quantize import quantize
from exporter.targets import find_target
from exporter.verification.accuracy import accuracy, compare
from exporter.verification.predict import predict

FULL_RANGE, OURS = "cpu-int8-vnni", "cpu-int8"
ISA = "avx2"
METHOD = "minmax"
BATCH = 50
LEARNING_RATE = 1e-2
GAIN = 2.0
"""Factor of the batch-norms at first: much is clipped at 1, and much at 0."""


class SignConv2d(nn.Conv2d):
    """Convolves with the signs of its weights; gradients pass to the weights (straight-through)."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve."""
        signs = self.weight + (self.weight.sign() - self.weight).detach()
        return nn.functional.conv2d(features, signs, self.bias, self.stride, self.padding)


class Rails(nn.Module):
    """Three convolutions that halve the image, an average and a linear layer."""

    def __init__(self, convolution: type[nn.Conv2d], classes: int) -> None:
        super().__init__()
        widths = (3, 32, 64, 64)
        layers: list[nn.Module] = []
        for incoming, outgoing in itertools.pairwise(widths):
            norm = nn.BatchNorm2d(outgoing)
            nn.init.constant_(norm.weight, GAIN)
            conv = convolution(incoming, outgoing, 3, stride=2, padding=1, bias=False)
            layers += [conv, norm, nn.Hardtanh(0.0, 1.0)]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map normalised pixels ``[N, 3, H, W]`` to logits ``[N, classes]``."""
        logits: Tensor = self.fc(self.pool(self.features(pixels)).flatten(1))
        return logits


def learn(data: Split, contract: InputContract, epochs: int) -> nn.Module:
    """Return a trained network whose convolutions have weights of -1 and 1 only."""
    torch.manual_seed(0)
    module = Rails(SignConv2d, len(contract.classes))
    optimizer = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE)
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, epochs)
    pixels, labels = (torch.from_numpy(values.copy()) for values in data.arrays())
    inputs = (pixels.permute(0, 3, 1, 2).float() - contract.zero_point) * contract.scale
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels)).split(BATCH):
            loss = nn.functional.cross_entropy(module(inputs[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        slower.step()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.sign_()
    plain = Rails(nn.Conv2d, len(contract.classes))
    plain.load_state_dict(module.state_dict())
    return plain.eval()


def int8(cache: Cache, model: OnnxModel, target: str, data: Split) -> Artifact:
    """Return the int8 file for ``target``."""
    ranges = cache.run(calibrate, CalibrationConfig(method=METHOD), model, data)
    return cache.run(quantize, find_target(target), model, ranges.by_method[METHOD], METHOD).file


def main() -> None:
    """Print two Markdown tables: the files on both CPUs, and the audit of the full-range one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--cache", type=Path, help="keep stages here; default: a fresh folder")
    parser.add_argument("--json", type=Path, help="file that receives the figures")
    arguments = parser.parse_args()

    emulator = find_emulator(ISA)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        cache = Cache(arguments.cache or Path(scratch) / "cache")
        splits = load_splits(cache, DataConfig())
        path = Path(scratch) / "rails.onnx"
        export_module(learn(splits.train, splits.contract, arguments.epochs), splits.contract, path)
        model = read_onnx_model(path)
        _, labels = splits.test.arrays()
        before = np.load(cache.run(predict, model.file, splits.test).logits.path)
        files = {
            target: int8(cache, model, target, splits.calibration) for target in (FULL_RANGE, OURS)
        }
        for target, file in files.items():
            here = np.load(cache.run(predict, file, splits.test).logits.path)
            there = np.load(
                cache.run(predict_emulated, file, splits.test, emulator, len(labels)).logits.path
            )
            rows.append(
                {
                    "target": target,
                    "float_top1": accuracy(before, labels).top1,
                    "native_top1": accuracy(here, labels).top1,
                    "emulated_top1": accuracy(there, labels).top1,
                    "changed_there": compare(here, there, labels).changed,
                    "largest_logit_difference": float(np.abs(here - there).max()),
                }
            )
        audit = cache.run(audit_saturation, files[FULL_RANGE], splits.calibration)
    print(f"| file | float | int8 here | int8 on {ISA} | other class there | of |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['target']} | {row['float_top1']:.2f} % | {row['native_top1']:.2f} % "
            f"| {row['emulated_top1']:.2f} % | {row['changed_there']} | {len(labels)} |"
        )
    print("\n| layer of the full-range file | pairs at risk | sums clipped | largest error |")
    print("|---|---|---|---|")
    for layer in audit.layers:
        print(
            f"| {layer.name} | {100 * layer.risky_share:.1f} % "
            f"| {100 * (layer.clipped_share or 0):.2f} % | {100 * (layer.largest_error or 0):.0f} %"
            " |"
        )
    if arguments.json:
        layers = [dataclasses.asdict(layer) for layer in audit.layers]
        arguments.json.write_text(json.dumps({"files": rows, "layers": layers}, indent=2) + "\n")


if __name__ == "__main__":
    main()
