"""One int8 file on several CPUs: what it loses there against its own float model.

Each float network is quantized for ``cpu-int8``; the file classifies all test images here, and on
the emulated CPUs of ``--isa``. Drops are against the float file, run here, image by image.

Usage::

    python -m benchmarks.instruction_sets --model FLOAT.onnx [--model ANOTHER.onnx] --data FOLDER
        [--isa avx2,arm64-neon,arm64-dotprod] [--images 5000] [--cache FOLDER] [--json FILE]

FLOAT.onnx is what ``exporter convert`` writes. Needs ``exporter setup-emulation``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from exporter.artifacts import Cache
from exporter.config import CalibrationConfig, DataConfig
from exporter.data.load import load_splits
from exporter.emulation.emulator import find_emulator
from exporter.emulation.predict import predict_emulated, sample
from exporter.graph.model import read_onnx_model
from exporter.quantization.calibrate import calibrate
from exporter.quantization.choose import choose_ranges
from exporter.targets import find_target
from exporter.verification.accuracy import accuracy, compare
from exporter.verification.predict import predict

TARGET = find_target("cpu-int8")
NATIVE = "here"


def main() -> None:
    """Print a Markdown table, a row for each network and CPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, action="append", required=True, help="float .onnx")
    parser.add_argument("--data", required=True, help="digits, or a folder with train/ and test/")
    parser.add_argument("--isa", default="avx2,arm64-neon,arm64-dotprod", help="emulated CPUs")
    parser.add_argument("--images", type=int, default=5000, help="test images, if there are more")
    parser.add_argument("--cache", type=Path, help="keep stages here; default: a fresh folder")
    parser.add_argument("--json", type=Path, help="file that receives the figures")
    arguments = parser.parse_args()

    emulators = [find_emulator(isa) for isa in arguments.isa.split(",")]
    rows: list[dict[str, Any]] = []
    print("| network | CPU | float % | int8 % | points lost (95 % CI) | other class than here |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        cache = Cache(arguments.cache or Path(scratch) / "cache")
        splits = load_splits(cache, DataConfig(data=arguments.data))
        chosen = sample(splits.test.arrays()[1], arguments.images)
        labels = splits.test.arrays()[1][chosen]
        for path in arguments.model:
            model = read_onnx_model(path)
            ranges = cache.run(calibrate, CalibrationConfig(), model, splits.calibration)
            int8 = choose_ranges(cache, TARGET, model, ranges, splits.validation)
            before = np.load(cache.run(predict, model.file, splits.test).logits.path)[chosen]
            here = np.load(cache.run(predict, int8.file, splits.test).logits.path)[chosen]
            answers = {NATIVE: here}
            for emulator in emulators:
                found = cache.run(
                    predict_emulated, int8.file, splits.test, emulator, arguments.images
                )
                answers[emulator.isa] = np.load(found.logits.path)
            for cpu, logits in answers.items():
                change = compare(before, logits, labels)
                low, high = change.drop_ci
                rows.append(
                    {
                        "model": str(path),
                        "cpu": cpu,
                        "float_top1": accuracy(before, labels).top1,
                        "int8_top1": accuracy(logits, labels).top1,
                        "drop": change.drop_points,
                        "drop_ci": change.drop_ci,
                        "changed_from_here": compare(here, logits, labels).changed,
                        "largest_logit_difference": float(np.abs(here - logits).max()),
                        "images": len(labels),
                        "seven_bit_layers": int8.seven_bit_layers,
                        "method": int8.method,
                    }
                )
                print(
                    f"| {path.parent.name}/{path.name} | {cpu} | {rows[-1]['float_top1']:.2f} "
                    f"| {rows[-1]['int8_top1']:.2f} "
                    f"| {change.drop_points:.2f} ({low:.2f} to {high:.2f}) "
                    f"| {rows[-1]['changed_from_here']} |",
                    flush=True,
                )
            if arguments.json:
                arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
