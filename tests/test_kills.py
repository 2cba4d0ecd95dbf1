"""The benchmark of killed builds, in short: four kills of one build, by several signals."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads processor time from /proc")
def test_after_four_kills_all_is_whole_and_the_bytes_are_the_same() -> None:
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", "4", "--seed", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = re.search(r"^(\d+) kills in \d+ builds; (\d+) finished results", done.stdout, re.M)
    assert found
    assert int(found[1]) == 4
    assert int(found[2]) > 0
    assert done.stdout.rstrip().endswith(" 0 faults.")
