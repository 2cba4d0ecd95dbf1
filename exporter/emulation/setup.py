"""Fetches what emulated CPUs need into the user's cache; the system stays as it is."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from exporter.emulation.components import (
    GUEST,
    QEMU,
    emulation_folder,
    guest_folder,
    qemu_folder,
)
from exporter.emulation.debian import fetch_packages, unpack
from exporter.emulation.emulator import Qemu, emulated_guest, find_qemu
from exporter.emulation.tools import run_tool
from exporter.errors import EmulationError, OutputError
from exporter.progress import track

DEBIAN_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's names of the machines that QEMU can run on here."""
Advance = Callable[[float, str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """One thing that emulation needs."""

    name: str
    version: str
    path: Path
    fetched: bool
    """Whether it was fetched just now."""


def set_up_emulation() -> tuple[Component, ...]:
    """Return what emulation needs, after fetching what was missing.

    A folder appears whole or not at all, so it can be run again at any time.

    Raises:
        EmulationError: this system cannot emulate, or something cannot be fetched.
        OutputError: the user's cache cannot be written.
    """
    host = platform.machine()
    if sys.platform != "linux" or host not in DEBIAN_NAMES:
        raise EmulationError(
            f"QEMU's user mode needs Linux on {' or '.join(DEBIAN_NAMES)}; this is {sys.platform} "
            f"on {host}. Use such a machine or a container."
        )
    folder = emulation_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder), track("Setting up emulation", total=6) as advance:
            qemu = _qemu(DEBIAN_NAMES[host], advance)
            return (*qemu, _guest(advance)) if host != GUEST.architecture else qemu
    except OSError as error:
        raise OutputError(
            f"Cannot write to {folder}: {error.strerror}. Free some space, or choose another "
            "place with XDG_CACHE_HOME."
        ) from error


def _qemu(debian: str, advance: Advance) -> tuple[Component, ...]:
    """Return QEMU for every architecture; the system's own where it is new enough."""
    missing = [name for name in QEMU.architectures if find_qemu(name) is None]
    if missing:

        def fill(folder: Path) -> None:
            advance(1, "downloading QEMU, 63 MB")
            work = folder / "work"
            packages = fetch_packages(work, QEMU.release, debian, [QEMU.name], _remedy())
            advance(1, "unpacking QEMU")
            unpack(packages, work)
            for name in QEMU.architectures:
                (work / f"usr/bin/qemu-{name}-static").rename(folder / f"qemu-{name}")
            shutil.rmtree(work)

        _place(qemu_folder(), fill)
    found = {name: _found_qemu(name) for name in QEMU.architectures}
    return tuple(
        Component(
            name=f"qemu-{name}", version=qemu.version, path=qemu.path, fetched=name in missing
        )
        for name, qemu in found.items()
    )


def _guest(advance: Advance) -> Component:
    """Return the other architecture's Python."""
    final = guest_folder()
    missing = not final.is_dir()
    if missing:

        def fill(folder: Path) -> None:
            advance(1, "downloading Python, 20 MB")
            work = folder / "work"
            packages = fetch_packages(work, GUEST.release, GUEST.debian, GUEST.packages, _remedy())
            advance(1, "unpacking Python")
            unpack(packages, folder / "root")
            shutil.rmtree(work)
            advance(1, f"downloading numpy and onnxruntime for {GUEST.architecture}, 30 MB")
            _install_wheels(folder / "site")
            advance(1, "starting it once")
            _try(folder)

        _place(final, fill)
    return Component(
        name=f"python-{GUEST.architecture}",
        version=f"numpy {GUEST.numpy}, onnxruntime {GUEST.onnxruntime}",
        path=final,
        fetched=missing,
    )


def _install_wheels(folder: Path) -> None:
    platforms = [part for name in GUEST.wheel_platforms for part in ("--platform", name)]
    run_tool(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-compile", "--only-binary=:all:", "--implementation", "cp"),
            *("--python-version", GUEST.python_version, *platforms, "--target", str(folder)),
            *(f"numpy=={GUEST.numpy}", f"onnxruntime=={GUEST.onnxruntime}"),
        ],
        doing=f"Downloading wheels for {GUEST.architecture}",
        remedy=f"It takes pip (python -m ensurepip) and a network. {_remedy()}",
    )


def _try(folder: Path) -> None:
    """Import the libraries under emulation; that leaves compiled modules for the next start."""
    emulator = emulated_guest(folder, _found_qemu(GUEST.architecture), "arm64-neon")
    environment = {**emulator.environment}
    del environment["PYTHONDONTWRITEBYTECODE"]
    run_tool(
        [*emulator.command, "-c", "import numpy, onnxruntime"],
        doing=f"Starting Python for {GUEST.architecture}",
        remedy=f"QEMU {emulator.qemu} may be too new or too old for it; 7.2 is known to work.",
        environment=environment,
    )


def _found_qemu(architecture: str) -> Qemu:
    found = find_qemu(architecture)
    if found is None:
        raise EmulationError(
            f"qemu-{architecture} was unpacked to {qemu_folder()} but does not start. "
            "Delete that folder and try again."
        )
    return found


def _remedy() -> str:
    return (
        "Try again with a network, on Debian or Ubuntu or in a container of one; or copy "
        f"{emulation_folder()} from a machine of the same kind."
    )


def _place(final: Path, fill: Callable[[Path], None]) -> None:
    """Make the folder ``final`` by ``fill``, under another name until it is whole."""
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir()
    try:
        fill(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time set up; the lock dies with its holder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
