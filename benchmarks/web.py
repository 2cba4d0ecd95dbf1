"""Models in headless Chromium, by onnxruntime-web: int8 against float, there and natively.

Usage::

    npm install --no-save onnxruntime-web
    exporter build --target web-int8
    python -m benchmarks.web FLOAT.onnx dist/edge-vgg-web-int8/model.onnx

Takes files that this tool has made (the paths of a build's float models are in its report.json).
Each is bundled for the web and opened in turns; its page checks golden outputs, which are those of
noise, before it measures. One thread, one image at a time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.chromium import find_chromium, find_runtime, open_page, served
from exporter.artifacts import Artifact, Cache
from exporter.bundle import bundle
from exporter.config import VerifyConfig
from exporter.contract import InputContract
from exporter.data.splits import Split
from exporter.graph.model import read_onnx_model
from exporter.ship import shipped_for
from exporter.targets import find_target
from exporter.verification.download import download_size
from exporter.verification.latency import measure_latency

TARGET = find_target("web-int8")
IMAGES = 64


def main() -> None:
    """Print a Markdown table with a row per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--rounds", type=int, default=5, help="times each page is opened")
    arguments = parser.parse_args()
    chromium, runtime = find_chromium(), find_runtime()
    if chromium is None:
        sys.exit("Chromium is not installed; on Debian: apt-get install chromium.")
    if runtime is None:
        sys.exit("onnxruntime-web is missing: npm install --no-save onnxruntime-web.")
    with tempfile.TemporaryDirectory(prefix="web-") as name:
        site = Path(name)
        (site / "ort").symlink_to(runtime.parent)
        folders = [_bundled(site, path, number) for number, path in enumerate(arguments.models)]
        times: dict[Path, list[float]] = {folder: [] for folder in folders}
        with served(site) as address:
            for _ in range(arguments.rounds):
                for folder in folders:
                    page_address = f"{address}/{folder.name}/index.html?ort=/ort/{runtime.name}"
                    with open_page(chromium, page_address) as page:
                        report = page.wait_for("window.report")
                    if not report["passed"]:
                        sys.exit(f"{folder.name}: {report}")
                    times[folder].append(report["latency"]["median_ms"])
        files = {str(folder): Artifact.of(folder / TARGET.file_name) for folder in folders}
        native = measure_latency(
            VerifyConfig(),
            files,
            np.zeros(_shape(read_onnx_model(arguments.models[0]).contract), np.uint8),
            baseline=str(folders[0]),
            candidate=str(folders[-1]),
        )
        print("| model | file, kB | gzip -9, kB | in Chromium, ms (min-max) | natively, ms |")
        print("|---|---|---|---|---|")
        for path, folder in zip(arguments.models, folders, strict=True):
            found, file = times[folder], files[str(folder)]
            print(
                f"| {path.parent.name}/{path.name} | {file.path.stat().st_size / 1000:.1f} "
                f"| {download_size(site, file).gzip_bytes / 1000:.1f} "
                f"| {statistics.median(found):.2f} ({min(found):.2f}-{max(found):.2f}) "
                f"| {native.timings[str(folder)].p50_ms:.3f} |"
            )


def _bundled(site: Path, path: Path, number: int) -> Path:
    model = read_onnx_model(path)
    return bundle(
        site,
        name=str(number),
        target=TARGET,
        shipped=shipped_for(Cache(site / "cache"), TARGET, model),
        contract=model.contract,
        validation=_noise(site, model.contract),
        recipe="",
        reports={"report.json": b"{}"},
    )


def _noise(folder: Path, contract: InputContract) -> Split:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, *_shape(contract)), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", np.arange(IMAGES, dtype=np.int64) % len(contract.classes))
    return Split(
        name="noise",
        images=Artifact.of(folder / "images.npy"),
        labels=Artifact.of(folder / "labels.npy"),
        count=IMAGES,
    )


def _shape(contract: InputContract) -> tuple[int, int, int]:
    return contract.height, contract.width, contract.channels


if __name__ == "__main__":
    main()
