"""Accuracy, size and latency of whole builds on CIFAR-10: dense float, small float, int8.

Usage::

    python -m benchmarks.cifar10 --data cifar10            # downloaded by torchvision before
    python -m benchmarks.cifar10 --data FOLDER             # a tree with train/ and test/
        [--recipes edge-vgg,resnet8,simple-cnn] [--cache FOLDER] [--json FILE]

Each recipe in ``benchmarks/recipes/`` is built by the command that a user would type; the table
shows what its JSON says. With an empty cache (the default) the build time is that of the whole
build.
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

RECIPES = Path(__file__).parent / "recipes"

HEADER = (
    "recipe",
    "model",
    "top-1 %",
    "KB",
    "of dense",
    "zstd KB",
    "MMACs",
    "p50 ms",
    "p90 ms",
    "speed-up (95 % CI)",
    "minutes",
)
COLUMNS = (("dense float", "dense"), ("small float", "small"), ("int8", "int8"))


def build(recipe: str, data: str, cache: Path, out: Path) -> tuple[dict[str, Any], float]:
    """Run one build; return its report and its wall time in seconds."""
    command = [sys.executable, "-m", "exporter", "build", "--target", "cpu-int8", "--json"]
    command += ["--recipe", str(RECIPES / f"{recipe}.toml"), "--data", data]
    command += ["--cache", str(cache), "--out", str(out)]
    print("$ exporter " + " ".join(command[3:]), file=sys.stderr, flush=True)
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.returncode)
    report: dict[str, Any] = json.loads(done.stdout)
    return report, time.perf_counter() - started


def rows(recipe: str, report: dict[str, Any], seconds: float) -> list[str]:
    """Return the Markdown rows of one build."""
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
            recipe if key == "dense" else "",
            title,
            f"{found['top1']:.2f}",
            f"{found['bytes'] / 1000:.0f}",
            f"{100 * found['bytes'] / dense['bytes']:.1f} %",
            f"{found['zstd_bytes'] / 1000:.0f}",
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
    """Build every recipe and print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="cifar10, or a folder with train/ and test/")
    parser.add_argument("--recipes", default="edge-vgg,resnet8,simple-cnn", help="comma-separated")
    parser.add_argument("--cache", type=Path, help="keep stages here; default: a fresh folder")
    parser.add_argument("--json", type=Path, help="file that receives the reports")
    arguments = parser.parse_args()

    table = [
        f"| {' | '.join(HEADER)} |",
        "|---" * len(HEADER) + "|",
    ]
    reports = {}
    with tempfile.TemporaryDirectory() as scratch:
        cache = arguments.cache or Path(scratch) / "cache"
        for recipe in arguments.recipes.split(","):
            report, seconds = build(recipe, arguments.data, cache, Path(scratch) / "dist")
            reports[recipe] = report | {"build_seconds": seconds}
            table += rows(recipe, report, seconds)
            print("\n".join(table), file=sys.stderr, flush=True)
    print("\n".join(table))
    if arguments.json:
        arguments.json.write_text(json.dumps(reports, indent=2) + "\n")


if __name__ == "__main__":
    main()
