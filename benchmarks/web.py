"""A web bundle in headless Chromium: int8 against float, in WebAssembly and natively.

Usage::

    npm install --no-save onnxruntime-web
    python -m benchmarks.web [--recipe build.toml] [--rounds 5]

The float models are bundled like the int8 one and run on the same page, in turns; a page checks its
golden outputs before it measures. One thread, one image at a time.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.chromium import find_chromium, find_runtime, open_page, served
from exporter.artifacts import Cache, cache_folder
from exporter.bundle import bundle
from exporter.config import BuildConfig
from exporter.data.load import load_splits
from exporter.graph.model import read_onnx_model
from exporter.pipeline import build
from exporter.recipe import read_recipe
from exporter.report.model import ModelReport
from exporter.report.verdict import NAMES
from exporter.ship import shipped_for
from exporter.targets import find_target

TARGET = "web-int8"


def main() -> None:
    """Print a Markdown table with a row per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", type=Path, help="what to build (default: the digits)")
    parser.add_argument("--rounds", type=int, default=5, help="times each page is opened")
    parser.add_argument("--cache", type=Path, help="as for `exporter build`")
    arguments = parser.parse_args()
    chromium, runtime = find_chromium(), find_runtime()
    if chromium is None:
        sys.exit("Chromium is not installed; on Debian: apt-get install chromium.")
    if runtime is None:
        sys.exit("onnxruntime-web is missing; npm install --no-save onnxruntime-web.")
    config = read_recipe(arguments.recipe) if arguments.recipe else BuildConfig()
    cache = Cache(cache_folder(arguments.cache, {}))
    with tempfile.TemporaryDirectory(prefix="web-") as name:
        site = Path(name)
        (site / "ort").symlink_to(runtime.parent)
        models = _bundles(config, cache, site)
        times: dict[str, list[float]] = {key: [] for key in models}
        with served(site) as address:
            for _ in range(arguments.rounds):
                for key in models:
                    page_address = f"{address}/{key}-{TARGET}/index.html?ort=/ort/{runtime.name}"
                    with open_page(chromium, page_address) as page:
                        report = page.wait_for("window.report")
                    if not report["passed"]:
                        sys.exit(f"{key}: {report}")
                    times[key].append(report["latency"]["median_ms"])
    print("| model | file, kB | gzip -9, kB | in Chromium, ms (min-max) | natively, ms |")
    print("|---|---|---|---|---|")
    for key, model in models.items():
        found = times[key]
        print(
            f"| {NAMES[key]} | {model.bytes / 1000:.1f} | {model.gzip_bytes / 1000:.1f} "
            f"| {statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f}) "
            f"| {model.p50_ms:.3f} |"
        )


def _bundles(config: BuildConfig, cache: Cache, site: Path) -> dict[str, ModelReport]:
    """Put a bundle for each model into ``site``; returns their reports by key."""
    verify = dataclasses.replace(config.verify, max_drop=100.0, min_speedup=0.0)
    config = dataclasses.replace(config, target=TARGET, out=str(site / "built"), verify=verify)
    report = build(config, cache)
    validation = load_splits(cache, config.data).validation
    target = find_target(TARGET)
    models = {
        "dense": report.models.dense,
        "small": report.models.small,
        "int8": report.models.int8,
    }
    present = {key: model for key, model in models.items() if model is not None}
    for key, model in present.items():
        read = read_onnx_model(Path(model.path))
        bundle(
            site,
            name=key,
            target=target,
            shipped=shipped_for(cache, target, read),
            contract=read.contract,
            validation=validation,
            recipe="",
            report_json="{}",
            report_markdown="",
        )
    return present


if __name__ == "__main__":
    main()
