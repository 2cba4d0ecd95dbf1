"""The runner where nothing is installed but numpy, onnxruntime and what onnxruntime asks for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exporter.device.answer import read_answer
from exporter.emulation.emulator import find_emulator
from exporter.errors import EmulationError
from tests.bare import run_bare


def test_the_bundle_passes_with_numpy_and_onnxruntime_alone(
    bare: Path, shipped: Path, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    result = run_bare(bare, shipped, "--json", "--no-latency", tmp_path / "a.png")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["golden"]["agree"] == 32
    assert len(document["images"][0]["top"]) == 3


def test_a_jpeg_there_is_refused_in_one_line_that_names_the_remedy(
    bare: Path, shipped: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (6, 8)).save(tmp_path / "a.jpg")
    result = run_bare(bare, shipped, tmp_path / "a.jpg")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "pip install pillow" in result.stderr


def test_without_onnxruntime_it_says_what_to_install(shipped: Path, tmp_path: Path) -> None:
    result = run_bare(tmp_path, shipped)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "run.py: No module named 'numpy'. Install it with: pip install numpy onnxruntime"
    ]


def test_an_emulated_arm64_board_with_an_older_onnxruntime_agrees(
    shipped: Path, tmp_path: Path
) -> None:
    try:
        board = find_emulator("arm64-neon")
    except EmulationError as missing:
        pytest.skip(str(missing))
    out = tmp_path / "device.json"
    command = [*board.command, str(shipped / "run.py"), "--no-latency", "--out", str(out)]
    done = subprocess.run(
        command, env=dict(board.environment), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = read_answer(out)
    assert answer.machine is not None
    assert answer.machine.machine == "aarch64"
    assert answer.machine.onnxruntime == board.onnxruntime
    assert answer.golden is not None
    assert answer.golden.agree == 32
