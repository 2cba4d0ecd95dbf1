"""Time and memory of calibration on large images: this project against ONNX Runtime's percentile.

Usage::

    python -m benchmarks.calibration_memory [--model torchvision:resnet50] [--size 224]
        [--images 1000] [--few 50] [--stride 10] [--limit-gb 16] [--json FILE]

The network has random weights and the images are noise: neither memory nor time depends on them.
Each calibrator runs in a process of its own, which may not take more than ``--limit-gb``:

* ours, all four methods from the same two passes over all images
* ours, percentile alone
* ONNX Runtime's percentile calibrator as ``quantize_static`` calls it, which keeps every activation
  until the last image: on ``--few`` images, since all of them do not fit
* the same with its option ``CalibStridedMinMax``, which looks at ``--stride`` images at a time

Ours reads raw bytes from a memory-mapped file, the others get normalised floats made of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quantizers import CORE_INPUT, peak_mb

MODEL, CORE, PIXELS = "model.onnx", "core.onnx", "pixels.npy"
BATCH = 32
"""Images per batch that ours is asked for, the default of ``exporter calibrate``."""
CHUNK = 50


def prepare(folder: Path, name: str, size: int, images: int) -> None:
    """Write the network, with its input side and without, and the images."""
    import onnx
    import torch

    from exporter.contract import InputContract
    from exporter.graph.contract import detach_image
    from exporter.graph.export import export_module
    from exporter.models.family import build_model
    from exporter.models.foreign import find_foreign

    contract = InputContract(height=size, width=size, classes=tuple(map(str, range(1000))))
    torch.manual_seed(0)
    export_module(build_model(find_foreign(name, ()), contract), contract, folder / MODEL)
    core = onnx.load(folder / MODEL)
    detach_image(core, contract)
    onnx.save(core, folder / CORE)
    rng = np.random.default_rng(0)
    pixels = np.lib.format.open_memmap(
        folder / PIXELS, "w+", dtype=np.uint8, shape=(images, size, size, 3)
    )
    for start in range(0, images, CHUNK):
        part = pixels[start : start + CHUNK]
        part[:] = rng.integers(0, 256, part.shape, dtype=np.uint8)


def ours(folder: Path, methods: Sequence[str], images: int) -> Callable[[], object]:
    """Return the work of this project's calibrator."""
    from calibration import ArrayStream, collect_ranges
    from exporter.contract import INPUT_NAME

    pixels = np.load(folder / PIXELS, mmap_mode="r")[:images]
    stream = ArrayStream(samples=pixels, input_name=INPUT_NAME, batch_size=BATCH)
    return lambda: collect_ranges(folder / MODEL, stream, methods)


class _Reader:
    """ONNX Runtime's CalibrationDataReader with the range that strides need."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels
        self._next, self._stop = 0, len(pixels)

    def __len__(self) -> int:
        return len(self._pixels)

    def set_range(self, start: int, stop: int) -> None:
        self._next, self._stop = start, stop

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        if self._next >= self._stop:
            return None
        pixels = self._pixels[self._next : self._next + 1]
        self._next += 1
        floats = (pixels.astype(np.float32) - 128) / 64
        return {CORE_INPUT: np.ascontiguousarray(floats.transpose(0, 3, 1, 2))}


def theirs(folder: Path, images: int, stride: int) -> Callable[[], object]:
    """Return the work of ONNX Runtime's percentile calibrator, ``stride`` images at a time."""
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    reader = _Reader(np.load(folder / PIXELS, mmap_mode="r")[:images])

    def work() -> object:
        calibrator = create_calibrator(
            folder / CORE,
            None,
            augmented_model_path=str(folder / "augmented.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
        )
        for start in range(0, images, stride):  # as quantize_static does for CalibStridedMinMax
            reader.set_range(start, min(start + stride, images))
            calibrator.collect_data(reader)
        return calibrator.compute_data()

    return work


def child(name: str, folder: Path, images: int, stride: int, limit_gb: float) -> None:
    """Do one calibrator's work in this process and print what it took."""
    limit = int(limit_gb * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    from calibration import METHODS

    work = {
        "ours, four methods": lambda: ours(folder, tuple(METHODS), images),
        "ours, percentile": lambda: ours(folder, ("percentile",), images),
        "ONNX Runtime, percentile": lambda: theirs(folder, images, images),
        "ONNX Runtime, percentile, strided": lambda: theirs(folder, images, stride),
    }[name]()
    imports = peak_mb()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(), "imports_mb": imports}))


def main() -> None:
    """Print a Markdown table, one calibrator per row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="torchvision:resnet50", help="classifier of torchvision")
    parser.add_argument("--size", type=int, default=224, help="pixels of a side")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--few", type=int, default=50, help="images that are kept all at once")
    parser.add_argument("--stride", type=int, default=10, help="images that are kept at a time")
    parser.add_argument("--limit-gb", type=float, default=16.0, help="address space of a process")
    parser.add_argument("--json", type=Path, help="file that receives the figures")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(
            arguments.child,
            arguments.folder,
            arguments.images,
            arguments.stride,
            arguments.limit_gb,
        )
        return
    plan = (
        ("ours, four methods", arguments.images),
        ("ours, percentile", arguments.images),
        ("ours, percentile", arguments.few),
        ("ONNX Runtime, percentile", arguments.few),
        ("ONNX Runtime, percentile, strided", arguments.images),
    )
    rows: list[dict[str, Any]] = []
    print("| calibrator | images | seconds | ms per image | peak MB | of it imports |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder, arguments.model, arguments.size, max(arguments.images, arguments.few))
        for name, images in plan:
            command = [sys.executable, "-m", "benchmarks.calibration_memory", "--child", name]
            command += ["--folder", scratch, "--images", str(images)]
            command += ["--stride", str(arguments.stride), "--limit-gb", str(arguments.limit_gb)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
                print(f"| {name} | {images} | failed: {last} | | | |", flush=True)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            rows.append({"name": name, "images": images, **found})
            print(
                f"| {name} | {images} | {found['seconds']:.1f} "
                f"| {1000 * found['seconds'] / images:.0f} | {found['peak_mb']:.0f} "
                f"| {found['imports_mb']:.0f} |",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
