"""Running a bundle where nothing is installed but numpy, onnxruntime and what they ask for."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

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


def bare_folder(folder: Path) -> Path:
    """Fill a folder with links to what those distributions installed (numpy.libs among it)."""
    for name in _needed_by("onnxruntime") | {"numpy"}:
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
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=300
    )


def _needed_by(name: str) -> set[str]:
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
