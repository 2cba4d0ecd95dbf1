"""What it gains to leave slow layers in float, or to pad the stem, on this machine.

``python -m benchmarks.float_layers``: for each network with random weights and noise for images,
what ``--float-layers slow`` tries, and what it keeps. Times alone: nothing here is trained.

The same file with all of its depthwise convolutions in float shows what conversions cost.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto
from torch import nn

from calibration import ArrayStream, collect_ranges
from exporter.artifacts import Artifact
from exporter.contract import INPUT_NAME, InputContract
from exporter.data.splits import Split
from exporter.graph.export import export_module
from exporter.graph.limits import read_model
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.mixed.race import racing
from exporter.mixed.slow_layers import find_slow_layers
from exporter.models import MODELS
from exporter.quantization.layers import layers_of
from exporter.quantization.quantize import quantize
from exporter.report.float_layers import COLUMNS, float_layers_summary, trial_rows
from exporter.report.markdown_table import table
from exporter.targets import find_target
from exporter.verification.machine import describe_machine

CLASSES = tuple("0123456789")
NETWORKS = (
    "edge-vgg:32",
    "resnet8:32",
    "simple-cnn:32",
    "mobilenet_v2:96",
    "mobilenet_v3_small:96",
)
IMAGES = 32


def main() -> None:
    """Print the trials of each network, and a line on all depthwise layers together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME:SIDE")
    asked = parser.parse_args()
    print(describe_machine().cpu.strip())
    for network in asked.networks:
        name, _, side = network.partition(":")
        with tempfile.TemporaryDirectory() as folder:
            _measure(name, int(side), Path(folder))


def _measure(name: str, side: int, folder: Path) -> None:
    model, data = _exported(name, side, folder), _noise(side, folder)
    images, _ = data.arrays()
    stream = ArrayStream(samples=images, input_name=INPUT_NAME, batch_size=8)
    ranges = folder / "minmax.json"
    ranges.write_text(collect_ranges(model.file.path, stream, ["minmax"])["minmax"].to_json())
    target, artifact = find_target("cpu-int8"), Artifact.of(ranges)
    found = find_slow_layers(folder, target, model, artifact, "minmax", data, "benchmark")
    rows = [[name, *row] for row in trial_rows(found)]
    print("\n".join(table(["network", *COLUMNS], rows)), float_layers_summary(found), sep="\n\n")
    depthwise = _depthwise(read_model(model.file.path))
    if depthwise:
        plain, floating = (
            quantize(_made(folder / str(len(floats))), target, model, artifact, "minmax", floats)
            for floats in ((), depthwise)
        )
        race = racing(np.array(images[0]))(plain.file, floating.file)
        print(f"All {len(depthwise)} depthwise layers in float: {race.ratio.value:.3f} times.")


def _exported(name: str, side: int, folder: Path) -> OnnxModel:
    contract = InputContract(height=side, width=side, classes=CLASSES)
    module = _module(name, side)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
    export_module(module.eval(), contract, folder / "float.onnx")
    return read_onnx_model(folder / "float.onnx")


def _module(name: str, side: int) -> nn.Module:
    torch.manual_seed(0)
    if name in MODELS:
        family = MODELS[name]
        return family.factory(widths=family.widths, classes=len(CLASSES), height=side, width=side)
    import torchvision

    module: nn.Module = torchvision.models.get_model(name, num_classes=len(CLASSES))
    return module


def _noise(side: int, folder: Path) -> Split:
    generator = np.random.default_rng(0)
    np.save(
        folder / "images.npy", generator.integers(0, 256, (IMAGES, side, side, 3), dtype=np.uint8)
    )
    np.save(folder / "labels.npy", np.arange(IMAGES) % len(CLASSES))
    return Split(
        name="noise",
        images=Artifact.of(folder / "images.npy"),
        labels=Artifact.of(folder / "labels.npy"),
        count=IMAGES,
    )


def _depthwise(model: ModelProto) -> tuple[str, ...]:
    layers: Sequence[str] = [layer.name for layer in layers_of(model) if layer.depthwise]
    return tuple(layers)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()
