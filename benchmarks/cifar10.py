"""Accuracy, size and latency of the three networks on CIFAR-10: dense float, small float, int8.

Usage::

    python -m benchmarks.cifar10 --data cifar10            # downloaded by torchvision before
    python -m benchmarks.cifar10 --data FOLDER             # a tree with train/ and test/
        [--models edge-vgg,resnet8,simple-cnn] [--cache FOLDER] [--json FILE]

Each network is built by the command that a user would type; the table shows what its JSON says.
With an empty cache (the default) the build time is that of the whole build.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

AUGMENT = "--label-smoothing 0.2 --translate 4 --cutout 6"
RECIPES = {
    "edge-vgg": f"--widths 48,192,192 --prune 0.4 --epochs 13 --finetune-epochs 6 {AUGMENT}",
    "simple-cnn": "--prune 0.735 --epochs 13 --finetune-epochs 13",
    "resnet8": "--prune 0.25 --epochs 26 --finetune-epochs 10",
}
"""Options beyond the defaults, by network."""

COLUMNS = (("dense float", "dense"), ("small float", "small"), ("int8", "int8"))


def build(model: str, data: str, cache: Path, out: Path) -> tuple[dict[str, Any], float]:
    """Run one build; return its report and its wall time in seconds."""
    command = [sys.executable, "-m", "exporter", "build", "--target", "cpu-int8", "--json"]
    command += ["--model", model, "--data", data, "--cache", str(cache), "--out", str(out)]
    command += RECIPES[model].split()
    print("$ exporter " + " ".join(command[3:]), file=sys.stderr, flush=True)
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    report: dict[str, Any] = json.loads(done.stdout)
    return report, time.perf_counter() - started


def rows(model: str, report: dict[str, Any], seconds: float) -> list[str]:
    """Return the Markdown rows of one network."""
    dense = report["models"]["dense"]
    took = {
        stage["name"]: 0 if stage["cached"] else stage["seconds"]
        for stage in report["stages"]
        if stage["name"] in ("train", "prune")
    }
    lines = []
    for title, key in COLUMNS:
        found = report["models"][key]
        if found is None:
            continue
        # The time it took to come this far: training, pruning with fine-tuning, and all the rest.
        minutes = {
            "dense": took["train"],
            "small": took["prune"],
            "int8": seconds - sum(took.values()),
        }[key] / 60
        cells = [
            model if key == "dense" else "",
            title,
            f"{found['top1']:.2f}",
            f"{found['bytes'] / 1000:.0f}",
            f"{100 * found['bytes'] / dense['bytes']:.1f} %",
            f"{found['macs'] / 1e6:.1f}",
            f"{found['p50_ms']:.3f}",
            f"{found['p90_ms']:.3f}",
            "",
            f"{minutes:.1f}" if minutes else "",
        ]
        if key == "int8":
            low, high = report["speedup_ci"]
            cells[-2] = f"{report['speedup']:.2f} ({low:.2f}-{high:.2f})"
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Build every network and print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="cifar10, or a folder with train/ and test/")
    parser.add_argument("--models", default=",".join(RECIPES), help="networks, comma-separated")
    parser.add_argument("--cache", type=Path, help="keep stages here; default: a fresh folder")
    parser.add_argument("--json", type=Path, help="file that receives the reports")
    arguments = parser.parse_args()

    table = [
        "| network | model | top-1 % | KB | of dense | MMACs | p50 ms | p90 ms | speed-up | min |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    reports = {}
    with tempfile.TemporaryDirectory() as scratch:
        cache = arguments.cache or Path(scratch) / "cache"
        for model in arguments.models.split(","):
            report, seconds = build(model, arguments.data, cache, Path(scratch) / "dist")
            reports[model] = report | {"build_seconds": seconds}
            table += rows(model, report, seconds)
            print("\n".join(table), file=sys.stderr, flush=True)
    print("\n".join(table))
    if arguments.json:
        arguments.json.write_text(json.dumps(reports, indent=2) + "\n")


if __name__ == "__main__":
    main()
