"""Starting on a dataset: the first time (decoding everything) and every later time.

Usage::

    python -m benchmarks.data_loading --data FOLDER

Each start is a process of its own, with imports left out of the time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def start(data: str, cache: Path) -> dict[str, float]:
    """Load the splits in this process; return images, seconds and peak memory in MB."""
    from exporter.artifacts import Cache
    from exporter.config import DataConfig
    from exporter.data.load import load_splits

    started = time.perf_counter()
    splits = load_splits(Cache(cache), DataConfig(data=data))
    seconds = time.perf_counter() - started
    parts = (splits.train, splits.calibration, splits.validation, splits.test)
    return {
        "images": sum(part.count for part in parts),
        "seconds": seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Print a Markdown table of one first start and three later ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="digits, cifar10, or a folder of images")
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cache:
        print(json.dumps(start(arguments.data, arguments.cache)))
        return
    print("| start | images | seconds | peak memory, MB |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        for title in ("first", "second", "third", "fourth"):
            command = [sys.executable, "-m", "benchmarks.data_loading"]
            command += ["--data", arguments.data, "--cache", cache]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {title} | {row['images']} | {row['seconds']:.2f} | {row['peak_mb']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
