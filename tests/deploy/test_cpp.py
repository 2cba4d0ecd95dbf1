"""The C++ example: compiled against an ONNX Runtime and run on a bundle, where there are both.

ONNXRUNTIME_ROOT names an unpacked release (its headers are what pip's package lacks).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import deploy.run

ROOT = os.environ.get("ONNXRUNTIME_ROOT", "")
SOURCE = Path(deploy.run.__file__).parent / "cpp"

pytestmark = pytest.mark.skipif(
    not ROOT or shutil.which("cmake") is None,
    reason="needs cmake, a C++ compiler and ONNXRUNTIME_ROOT=FOLDER with ONNX Runtime's release",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cpp")
    configure = ["cmake", "-S", SOURCE, "-B", folder, f"-DONNXRUNTIME_ROOT={ROOT}"]
    for command in (
        [*configure, "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Werror"],
        ["cmake", "--build", folder],
    ):
        subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return folder / "edge-check"


def check(program: Path, bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(program), str(bundle), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_golden_outputs_agree_and_times_are_told(program: Path, shipped: Path) -> None:
    done = check(program, shipped, "1")
    assert (done.returncode, done.stderr) == (0, "")
    golden, latency = done.stdout.splitlines()
    assert golden.startswith("golden outputs: 32 of 32 classes agree, largest difference 0,")
    assert latency.startswith("latency: median ")


def test_other_outputs_are_exit_code_1(program: Path, copy: Path) -> None:
    from exporter.golden import Golden, golden_file

    with np.load(copy / "golden.npz") as arrays:
        found = dict(arrays)
    manifest = json.loads((copy / "manifest.json").read_bytes())
    tolerance = manifest["golden"]["tolerance"]
    for share, code in ((0.9, 0), (1.1, 1), (np.nan, 1)):
        logits = found["logits"].copy()
        logits[3, logits[3].argmin()] += np.float32(share * tolerance)
        changed = Golden(
            images=found["images"], labels=found["labels"], logits=logits, tolerance=tolerance
        )
        (copy / "golden.npz").write_bytes(golden_file(changed))
        assert check(program, copy).returncode == code


def test_what_is_missing_or_cut_is_exit_code_2(program: Path, copy: Path) -> None:
    whole = (copy / "golden.npz").read_bytes()
    for content in (b"", whole[:10], whole[:200], whole[: len(whole) // 2], b"PK no"):
        (copy / "golden.npz").write_bytes(content)
        done = check(program, copy)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1
    (copy / "golden.npz").write_bytes(whole)
    (copy / "model.onnx").write_bytes(b"no model")
    assert check(program, copy).returncode == 2
    (copy / "manifest.json").unlink()
    assert "cannot read" in check(program, copy).stderr
