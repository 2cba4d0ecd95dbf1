"""Setting up leaves whole folders or none, and its refusals are one line with a way out."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from exporter.emulation import setup
from exporter.emulation.components import GUEST, emulation_folder, guest_folder, qemu_folder
from exporter.emulation.debian import KEYRING
from exporter.emulation.setup import set_up_emulation
from exporter.emulation.tools import complaint, run_tool
from exporter.errors import EmulationError, OutputError
from tests.emulation.test_emulator import put_qemu

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="QEMU's user mode needs Linux")

needs_keys = pytest.mark.skipif(not KEYRING.is_file(), reason=f"{KEYRING} is not here")


class Mirror:
    """Stands in for Debian and PyPI; notes what is fetched, and unpacks to what it should be."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.broken = False

    def fetch(
        self, folder: Path, release: str, architecture: str, packages: Sequence[str], remedy: str
    ) -> tuple[Path, ...]:
        assert release == "bookworm"
        if self.broken:
            raise EmulationError("no network")
        folder.mkdir(parents=True, exist_ok=True)
        self.fetched += [f"{package}:{architecture}" for package in packages]
        return tuple(folder / package for package in packages)

    def unpack(self, packages: Sequence[Path], folder: Path) -> None:
        for package in packages:
            if package.name == "qemu-user-static":
                for name in ("aarch64", "x86_64"):
                    put_qemu(folder / f"usr/bin/qemu-{name}-static", "7.2.22")
            else:
                (folder / "usr").mkdir(parents=True, exist_ok=True)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """A bare x86-64 machine with a mirror in reach."""
    fake = Mirror()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(setup, "fetch_packages", fake.fetch)
    monkeypatch.setattr(setup, "unpack", fake.unpack)
    monkeypatch.setattr(setup, "_install_wheels", lambda folder: folder.mkdir())
    return fake


@pytest.fixture(autouse=True)
def _without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "_try", lambda folder: None)


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_everything_is_fetched_once(mirror: Mirror) -> None:
    first = set_up_emulation()

    assert [(part.name, part.fetched) for part in first] == [
        ("qemu-aarch64", True),
        ("qemu-x86_64", True),
        ("python-aarch64", True),
    ]
    assert mirror.fetched[0] == "qemu-user-static:amd64"
    assert mirror.fetched[1:] == [f"{name}:arm64" for name in GUEST.packages]
    assert entries(emulation_folder()) == sorted([guest_folder().name, qemu_folder().name])
    assert entries(guest_folder()) == ["root", "site"]
    assert entries(qemu_folder()) == ["qemu-aarch64", "qemu-x86_64"]

    second = set_up_emulation()

    assert not any(part.fetched for part in second)
    assert [part.path for part in second] == [part.path for part in first]
    assert len(mirror.fetched) == 1 + len(GUEST.packages)


def test_the_systems_own_qemu_is_used_where_it_is_new_enough(
    mirror: Mirror, tmp_path: Path
) -> None:
    for name in ("aarch64", "x86_64"):
        put_qemu(tmp_path / "nothing" / f"qemu-{name}", "8.2.2")

    found = set_up_emulation()

    assert [part.version for part in found[:2]] == ["8.2.2", "8.2.2"]
    assert "qemu-user-static:amd64" not in mirror.fetched
    assert not qemu_folder().exists()


def test_an_arm_machine_needs_no_other_python(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")

    assert [part.name for part in set_up_emulation()] == ["qemu-aarch64", "qemu-x86_64"]
    assert mirror.fetched == ["qemu-user-static:arm64"]


def test_what_failed_leaves_nothing_and_can_be_done_again(mirror: Mirror) -> None:
    mirror.broken = True
    with pytest.raises(EmulationError, match="no network"):
        set_up_emulation()
    assert entries(emulation_folder()) == []
    mirror.broken = False
    assert len(set_up_emulation()) == 3


def test_what_a_killed_run_left_is_replaced(mirror: Mirror) -> None:
    left = guest_folder().with_name(f".{guest_folder().name}.partial")
    (left / "root").mkdir(parents=True)

    set_up_emulation()

    assert not left.exists()
    assert guest_folder().is_dir()


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "riscv64")])
def test_other_machines_are_refused(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(EmulationError, match=f"this is {system} on {machine}"):
        set_up_emulation()


def test_a_cache_that_cannot_be_written_is_told(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="XDG_CACHE_HOME"):
        set_up_emulation()


@needs_keys
def test_a_system_without_apt_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(EmulationError, match="needs apt-get, which is not here") as error:
        set_up_emulation()
    assert "container" in str(error.value)
    assert entries(emulation_folder()) == []


@needs_keys
def test_a_system_without_a_network_is_told_what_apt_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "E: Could not resolve 'deb.debian.org'"
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "W: no" >&2\necho "{said}" >&2\nexit 100\n')
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(EmulationError, match=r"failed: Could not resolve .deb\.debian\.org.\. Try"):
        set_up_emulation()


def test_a_system_without_debians_keys_is_told_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.emulation.debian.KEYRING", tmp_path / "keys.gpg")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(EmulationError, match="apt-get install debian-archive-keyring"):
        set_up_emulation()


def test_a_tool_that_fails_is_quoted_in_one_line() -> None:
    script = "import sys; sys.exit('first line\\nno such wheel.')"
    with pytest.raises(EmulationError, match=r"^Fetching failed: no such wheel\. Try again\.$"):
        run_tool([sys.executable, "-c", script], doing="Fetching", remedy="Try again.")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("W: slow\nE: Unable to locate package x\nE: more\n", "Unable to locate package x"),
        ("ERROR: No matching distribution found.\nnotice\n", "No matching distribution found"),
        ("Traceback:\n  File\nRuntimeError: bad\n", "RuntimeError: bad"),
        ("qemu-x86_64: warning: TCG doesn't support requested feature\n", "exit code 7"),
        ("", "exit code 7"),
    ],
)
def test_the_line_that_tells_why(text: str, line: str) -> None:
    assert complaint(text, 7) == line
