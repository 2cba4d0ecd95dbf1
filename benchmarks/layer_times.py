"""Expected against measured times of int8 files: how good the sum over layers is.

Every network is exported and quantized for real, with random weights, and timed the way ``verify``
times, all files in turns. Beside it stands the sum of its layers' times, from a table that starts
empty unless ``--cache`` names a folder with one.

Usage::

    python -m benchmarks.layer_times [--seconds 20] [--cache FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from exporter.artifacts import Artifact
from exporter.config import CalibrationConfig
from exporter.contract import INPUT_NAME, OUTPUT_NAME, InputContract
from exporter.data.splits import Split
from exporter.graph.export import export_module
from exporter.graph.model import read_onnx_model
from exporter.models.family import ModelRef, build_model
from exporter.pruning.layer_times import THREADS, estimate_ms, table_path
from exporter.quantization.calibrate import calibrate
from exporter.quantization.quantize import quantize
from exporter.targets import find_target
from exporter.verification.latency import summarize, time_blocks
from exporter.verification.pinning import pinned
from exporter.verification.session import open_session

CONTRACT = InputContract(height=32, width=32, classes=tuple("0123456789"))
TARGET = find_target("cpu-int8")
NETWORKS = (
    ModelRef(name="edge-vgg", widths=(32, 128, 128)),
    ModelRef(name="edge-vgg", widths=(24, 96, 96)),
    ModelRef(name="edge-vgg", widths=(16, 64, 64)),
    ModelRef(name="edge-vgg", widths=(32, 64, 128)),
    ModelRef(name="simple-cnn", widths=(64, 128, 1024)),
    ModelRef(name="simple-cnn", widths=(32, 64, 256)),
    ModelRef(name="resnet8", widths=(16, 32, 64)),
)
IMAGES = 64


def int8_file(module: nn.Module, images: Split, folder: Path) -> Artifact:
    """Return the int8 file of ``module``, made in ``folder``."""
    folder.mkdir()
    export_module(module, CONTRACT, folder / "float.onnx")
    model = read_onnx_model(folder / "float.onnx")
    ranges = calibrate(folder, CalibrationConfig(method="minmax"), model, images)
    return quantize(folder, TARGET, model, ranges.by_method["minmax"], "minmax").file


def measured_ms(files: dict[str, Artifact], seconds: float) -> dict[str, float]:
    """Return the median time of one image by network, timed in turns."""
    shape = (1, CONTRACT.height, CONTRACT.width, CONTRACT.channels)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def runner(file: Artifact) -> Callable[[], object]:
        session = open_session(file, threads=THREADS)
        return lambda: session.run([OUTPUT_NAME], {INPUT_NAME: image})

    with pinned(THREADS):
        subjects = {label: runner(file) for label, file in files.items()}
        blocks = time_blocks(subjects, seconds, np.random.default_rng(0))
    return {label: summarize(times).p50_ms for label, times in blocks.items()}


def random_images(folder: Path) -> Split:
    """Write a few random images to calibrate on."""
    generator = np.random.default_rng(0)
    shape = (IMAGES, CONTRACT.height, CONTRACT.width, CONTRACT.channels)
    np.save(folder / "images.npy", generator.integers(0, 256, shape, dtype=np.uint8))
    np.save(folder / "labels.npy", generator.integers(0, 10, IMAGES))
    return Split(
        name="random",
        images=Artifact.of(folder / "images.npy"),
        labels=Artifact.of(folder / "labels.npy"),
        count=IMAGES,
    )


def main() -> None:
    """Print a Markdown table of expected and measured milliseconds, a row per network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="timing, all files together")
    parser.add_argument("--cache", type=Path, help="folder with a table of layer times")
    parser.add_argument("--json", type=Path, help="file that receives the figures")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    networks = {
        f"{model.name} {'/'.join(map(str, model.widths))}": build_model(model, CONTRACT).eval()
        for model in NETWORKS
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = arguments.cache or folder
        started = time.perf_counter()
        expected = {
            label: estimate_ms(module, CONTRACT, TARGET, folder=cache)
            for label, module in networks.items()
        }
        seconds = time.perf_counter() - started
        entries = len(json.loads(table_path(cache).read_text()))
        images = random_images(folder)
        files = {
            label: int8_file(module, images, folder / str(place))
            for place, (label, module) in enumerate(networks.items())
        }
        measured = measured_ms(files, arguments.seconds)

    rows = []
    # One factor for the machine, from the first network alone, judged on the others.
    first = next(iter(networks))
    factor = measured[first] / expected[first]
    print("| network | expected, ms | measured (p50), ms | off by, % | with one factor, % |")
    print("|---|---|---|---|---|")
    for label in networks:
        ratio = expected[label] / measured[label]
        rows.append(
            {
                "network": label,
                "expected_ms": expected[label],
                "measured_ms": measured[label],
                "error_percent": 100 * (ratio - 1),
                "scaled_error_percent": 100 * (factor * ratio - 1),
            }
        )
        print(
            f"| {label} | {expected[label]:.4f} | {measured[label]:.4f} "
            f"| {100 * (ratio - 1):+.1f} | {100 * (factor * ratio - 1):+.1f} |"
        )
    print(
        f"\n{entries} entries in the table, filled in {seconds:.1f} s; the factor is {factor:.3f}."
    )
    if arguments.json:
        document = {"rows": rows, "factor": factor, "entries": entries, "seconds": seconds}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
