"""A disk that is full, again and again: is every refusal one line, and nothing lost?

Usage, as root, who may mount a tmpfs::

    python -m benchmarks.full_disk

A small build of the digits runs with its cache, output and temporary folder on a disk of a few
kilobytes. Each time it is refused, the disk grows by a random amount and the same command is given
again, until the build has ended; so it is full once at nearly every step. Every refusal must be one
line with exit code 2, all that has a final name must be whole, and the bytes in the end must be
those of a build that had all the room it wanted. Exit code 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.kills import build, damage, differences, fresh, load

REFUSED = 2
FIRST_KB = 64
LAST_KB = 64 * 1024


def main() -> None:
    """Print how often the disk was full, what was said, and what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step-kb", type=int, default=64, help="mean growth of the disk")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    load()
    with tempfile.TemporaryDirectory(prefix="full-disk-") as name:
        first, disk = fresh(Path(name) / "first"), Path(name) / "disk"
        whole = build(first)
        if whole.code:
            raise SystemExit(f"The build fails with all the room it wants: {whole.said}")
        disk.mkdir()
        with _mounted(disk, FIRST_KB):
            said, wrong = _grown(disk, arguments.step_kb, random)
            wrong += differences(first, disk)
    for line, times in said.most_common():
        print(f"{times:4d}x {line}")
    print(f"{said.total()} times full, {len(wrong)} faults.")
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(1 if wrong else 0)


def _grown(disk: Path, step_kb: int, random: np.random.Generator) -> tuple[Counter[str], list[str]]:
    """Return the refusals on the way to a finished build, and what was wrong with any."""
    said: Counter[str] = Counter()
    wrong: list[str] = []
    size = FIRST_KB
    fresh(disk)
    while (run := build(disk)).code:
        said[re.sub(r"[0-9a-f]{20}|/\S*/", "…", run.said.strip())[:200]] += 1
        if run.code != REFUSED or len(run.said.splitlines()) != 1:
            wrong.append(f"{size} kB: exit code {run.code}: {run.said[-300:]}")
        wrong += [f"{size} kB: {what}: {fault}" for what, fault in damage(disk) if fault]
        if size > LAST_KB:
            wrong.append(f"not enough room in {size} kB")
            break
        size += int(random.integers(1, 2 * step_kb))
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)
    return said, wrong


@contextmanager
def _mounted(disk: Path, kilobytes: int) -> Iterator[None]:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)], check=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)


if __name__ == "__main__":
    main()
