"""The runner where nothing is installed but numpy, onnxruntime and what onnxruntime asks for."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

# -I and -S: no site-packages, no environment variables, no current folder; only `bare` is added.
START = """
import importlib.util, runpy, sys
sys.path.append(sys.argv[1])
found = {name: importlib.util.find_spec(name) is not None for name in FORBIDDEN}
if any(found.values()):
    sys.exit(f"importable: {found}")
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
FORBIDDEN = ("torch", "PIL", "onnx", "exporter", "deploy", "calibration", "pydantic", "scipy")


def needed_by(name: str) -> set[str]:
    """Return a distribution and all that it requires here, by name."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for line in distribution(name).requires or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of links to what those distributions installed (numpy.libs among it)."""
    folder = tmp_path_factory.mktemp("bare")
    for name in needed_by("onnxruntime") | {"numpy"}:
        installed = distribution(name)
        tops = {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}
        for top in tops:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(str(installed.locate_file(top))))
    return folder


def run_bare(bare: Path, bundle: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    start = START.replace("FORBIDDEN", repr(FORBIDDEN))
    command = [sys.executable, "-I", "-S", "-c", start, bare, bundle / "run.py", *arguments]
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=120
    )


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
