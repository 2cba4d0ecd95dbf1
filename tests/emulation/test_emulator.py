"""What an emulated CPU needs is found, or the refusal says what is missing and how to get it."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

from exporter.emulation.components import guest_folder, qemu_folder
from exporter.emulation.emulator import find_emulator, find_qemu
from exporter.errors import EmulationError

linux = pytest.mark.skipif(sys.platform != "linux", reason="QEMU's user mode needs Linux")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An x86-64 machine with nothing set up; returns its folder of programs, an empty one."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return programs


def put_qemu(path: Path, version: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'qemu-x86_64 version {version} (Debian)'\n")
    path.chmod(0o755)


def refusal(isa: str) -> str:
    with pytest.raises(EmulationError) as error:
        find_emulator(isa)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("isa", ["avx-vnni", "avx512", "avx512-vnni"])
def test_what_qemu_does_not_translate_is_refused(isa: str) -> None:
    assert refusal(isa).startswith(f"{isa} cannot be emulated")
    assert "on a CPU that has it" in refusal(isa)


def test_other_systems_are_told_to_use_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Linux" in refusal("avx2")


@linux
def test_a_missing_qemu_can_be_set_up(bare: Path) -> None:
    assert find_qemu("x86_64") is None
    assert refusal("avx2").endswith("Run: exporter setup-emulation")
    assert "qemu-x86_64 7.2" in refusal("avx2")


@linux
@pytest.mark.parametrize(
    ("version", "good"), [("6.2.0", False), ("7.1.99", False), ("7.2.22", True), ("10.0.2", True)]
)
def test_a_qemu_that_is_too_old_counts_as_missing(bare: Path, version: str, good: bool) -> None:
    put_qemu(bare / "qemu-x86_64", version)
    assert (find_qemu("x86_64") is not None) == good
    if good:
        found = find_emulator("avx2")
        assert (found.qemu, found.cpu, found.onnxruntime) == (version, "Haswell", ort.__version__)
        assert found.command == (str(bare / "qemu-x86_64"), "-cpu", "Haswell", sys.executable)


@linux
def test_a_static_qemu_will_do_and_a_broken_one_is_passed_over(bare: Path) -> None:
    (bare / "qemu-x86_64").write_text("not a program")
    (bare / "qemu-x86_64").chmod(0o755)
    assert find_qemu("x86_64") is None
    put_qemu(bare / "qemu-x86_64-static", "7.2.0")
    found = find_qemu("x86_64")
    assert found is not None
    assert found.path == bare / "qemu-x86_64-static"


@linux
def test_the_qemu_that_was_set_up_comes_first(bare: Path) -> None:
    put_qemu(bare / "qemu-x86_64", "9.0.0")
    put_qemu(qemu_folder() / "qemu-x86_64", "7.2.22")
    found = find_qemu("x86_64")
    assert found is not None
    assert found.version == "7.2.22"


@linux
def test_another_architecture_needs_a_python_of_its_own(bare: Path) -> None:
    put_qemu(bare / "qemu-aarch64", "7.2.22")
    assert "a Python for aarch64" in refusal("arm64-neon")
    assert refusal("arm64-neon").endswith("Run: exporter setup-emulation")
    guest_folder().mkdir(parents=True)

    found = find_emulator("arm64-neon")

    root = guest_folder() / "root"
    assert found.command[1:5] == ("-cpu", "cortex-a53", "-L", str(root))
    assert found.command[5] == str(root / "usr/bin/python3.11")
    assert found.environment["PYTHONHOME"] == str(root / "usr")
    assert "PATH" not in found.environment  # nothing of the host's Python leaks in
    assert found.onnxruntime == "1.26.0"


@linux
def test_an_arm_machine_runs_its_own_python_as_an_older_arm(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    put_qemu(bare / "qemu-aarch64", "7.2.22")
    put_qemu(bare / "qemu-x86_64", "7.2.22")
    assert find_emulator("arm64-neon").command[-1] == sys.executable
    assert "only be emulated on an x86_64 machine" in refusal("avx2")
