"""What each correction takes back of what quantization costs, on one float network.

Usage::

    python -m benchmarks.corrections --model FLOAT.onnx --data FOLDER [--targets cpu-int8]
        [--method auto] [--combinations "none;bias;equalize,bias"] [--cache FOLDER] [--json FILE]

Every combination goes the way of a build: float corrections, activation ranges measured on the
changed network and chosen on validation images, quantization, the other corrections. Drops are
against the float file on the same test images. ``none`` is the plain file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from exporter.artifacts import Cache
from exporter.config import CalibrationConfig, CorrectionConfig, DataConfig
from exporter.data.load import load_splits
from exporter.data.splits import Splits
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.quantization.calibrate import calibrate
from exporter.quantization.choose import choose_ranges
from exporter.quantization.corrections.apply import corrected, rescaled
from exporter.quantization.quantize import QuantizedModel
from exporter.targets import find_target
from exporter.verification.accuracy import accuracy, compare
from exporter.verification.predict import predict

COMBINATIONS = (
    "none;bias;equalize;adaround;equalize,bias;adaround,bias;equalize,adaround,bias;"
    "open-clips,equalize;open-clips,equalize,bias;open-clips,equalize,adaround,bias"
)


def quantized(
    cache: Cache, target: str, model: OnnxModel, splits: Splits, correct: str, method: str
) -> QuantizedModel:
    """Return the int8 form of ``model`` with the corrections ``correct``."""
    config = CorrectionConfig(correct=correct)
    changed = rescaled(cache, config, model)
    ranges = cache.run(calibrate, CalibrationConfig(method=method), changed, splits.calibration)
    found = find_target(target)
    plain = choose_ranges(cache, found, changed, ranges, splits.validation)
    return corrected(cache, config, found, changed, ranges, plain, splits.calibration)


def main() -> None:
    """Print a Markdown table, a row for each target and combination."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="float .onnx of `convert`")
    parser.add_argument("--data", required=True, help="digits, or a folder with train/ and test/")
    parser.add_argument("--targets", default="cpu-int8", help="comma-separated")
    parser.add_argument("--method", default="auto", help="see `exporter methods`")
    parser.add_argument("--combinations", default=COMBINATIONS, help="with ; between them")
    parser.add_argument("--cache", type=Path, help="keep stages here; default: a fresh folder")
    parser.add_argument("--json", type=Path, help="file that receives the figures")
    arguments = parser.parse_args()

    rows: list[dict[str, Any]] = []
    print("| target | corrections | ranges | top-1 % | points lost (95 % CI) | seconds |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        cache = Cache(arguments.cache or Path(scratch) / "cache")
        model = read_onnx_model(arguments.model)
        splits = load_splits(cache, DataConfig(data=arguments.data))
        _, labels = splits.test.arrays()
        before = np.load(cache.run(predict, model.file, splits.test).logits.path)
        print(f"|  | float |  | {accuracy(before, labels).top1:.2f} |  |  |", flush=True)
        for target in arguments.targets.split(","):
            for correct in arguments.combinations.split(";"):
                started = time.perf_counter()
                made = quantized(cache, target, model, splits, correct, arguments.method)
                seconds = time.perf_counter() - started
                after = np.load(cache.run(predict, made.file, splits.test).logits.path)
                change = compare(before, after, labels)
                low, high = change.drop_ci
                rows.append(
                    {
                        "target": target,
                        "corrections": correct,
                        "method": made.method,
                        "top1": accuracy(after, labels).top1,
                        "drop": change.drop_points,
                        "drop_ci": change.drop_ci,
                        "changed": change.changed,
                        "seconds": seconds,
                        "seven_bit_layers": len(made.seven_bit_layers),
                    }
                )
                print(
                    f"| {target} | {correct} | {made.method} | {rows[-1]['top1']:.2f} "
                    f"| {change.drop_points:.2f} ({low:.2f} to {high:.2f}) | {seconds:.1f} |",
                    flush=True,
                )
                if arguments.json:
                    arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
