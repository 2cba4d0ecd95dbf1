"""What is fetched so that CPUs of another architecture can be emulated, and where it is kept.

Two folders in the user's cache: QEMU itself, for who has none, and a Python of the other
architecture. Their names hold a digest of what they are made of, so a folder that is there is the
right one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from exporter.artifacts import cache_folder, digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Guest:
    """A Python for another architecture: Debian's, unpacked, with wheels beside it."""

    architecture: str
    debian: str
    """The architecture as Debian names it."""
    release: str
    """Debian's release."""
    packages: tuple[str, ...]
    python: str
    """The interpreter, relative to the unpacked root."""
    python_version: str
    wheel_platforms: tuple[str, ...]
    numpy: str
    onnxruntime: str


GUEST = Guest(
    architecture="aarch64",
    debian="arm64",
    release="bookworm",
    packages=(
        "python3.11-minimal",
        "libpython3.11-minimal",
        "libpython3.11-stdlib",
        "libc6",
        "libstdc++6",
        "libgcc-s1",
        "zlib1g",
        "libexpat1",
        "libffi8",
        "libssl3",
        "libbz2-1.0",
        "liblzma5",
        "libuuid1",
        "libsqlite3-0",
    ),
    python="usr/bin/python3.11",
    python_version="3.11",
    wheel_platforms=("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64"),
    numpy="2.2.6",
    onnxruntime="1.26.0",  # 1.32.0 for aarch64 crashes under QEMU 7.2 when it is imported
)


@dataclass(frozen=True, kw_only=True, slots=True)
class QemuPackage:
    """A package with statically linked binaries, which run wherever they lie."""

    release: str
    name: str
    architectures: tuple[str, ...]
    """Those whose binaries are kept."""


QEMU = QemuPackage(release="bookworm", name="qemu-user-static", architectures=("aarch64", "x86_64"))


def emulation_folder() -> Path:
    """Return the folder of everything below, whichever cache a build uses."""
    return cache_folder(None, os.environ) / "emulation"


def guest_folder() -> Path:
    """Return where the other architecture's Python is, once it was set up."""
    return emulation_folder() / f"{GUEST.architecture}-{digest(GUEST)[:12]}"


def qemu_folder() -> Path:
    """Return where QEMU is, once it was set up."""
    return emulation_folder() / f"qemu-{digest(QEMU)[:12]}"
