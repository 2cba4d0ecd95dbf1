"""Finding what an emulated CPU needs: QEMU, and a Python with ONNX Runtime for it to run."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from exporter.emulation.components import GUEST, guest_folder, qemu_folder
from exporter.emulation.instruction_sets import INSTRUCTION_SETS
from exporter.errors import EmulationError

OLDEST_QEMU = (7, 2)
"""The first one that translates AVX2."""
SETUP = "Run: exporter setup-emulation"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Emulator:
    """An emulated CPU with a Python that has numpy and ONNX Runtime."""

    isa: str
    cpu: str
    """QEMU's model."""
    qemu: str
    """Version of QEMU."""
    onnxruntime: str
    numpy: str
    command: tuple[str, ...] = field(compare=False)
    """Starts that Python; a script and its arguments are to follow."""
    environment: Mapping[str, str] = field(compare=False)
    """All environment variables it gets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Qemu:
    """QEMU's user mode for one architecture."""

    path: Path
    version: str


def find_emulator(isa: str) -> Emulator:
    """Return an emulated CPU whose best int8 kernels are those of ``isa``.

    Raises:
        EmulationError: there is none, or something that it needs is not installed.
    """
    wanted = INSTRUCTION_SETS[isa]
    if not wanted.cpu:
        raise EmulationError(
            f"{isa} cannot be emulated, QEMU does not translate it. Run `exporter verify` on a CPU "
            f"that has it, or leave it out of --isa."
        )
    if sys.platform != "linux":
        raise EmulationError(
            f"{isa} can only be emulated on Linux, where QEMU has a user mode. "
            "Leave it out of --isa, or use a Linux machine or container."
        )
    qemu = find_qemu(wanted.architecture)
    if qemu is None:
        oldest = ".".join(map(str, OLDEST_QEMU))
        raise EmulationError(
            f"{isa} is emulated by qemu-{wanted.architecture} {oldest} or newer, which is not "
            f"here. {SETUP}"
        )
    emulated = (str(qemu.path), "-cpu", wanted.cpu)
    if wanted.architecture == platform.machine():
        return Emulator(
            isa=isa,
            cpu=wanted.cpu,
            qemu=qemu.version,
            onnxruntime=version("onnxruntime"),
            numpy=version("numpy"),
            command=(*emulated, sys.executable),
            environment=os.environ | ONE_THREAD,
        )
    if wanted.architecture != GUEST.architecture:
        raise EmulationError(
            f"{isa} can only be emulated on an {wanted.architecture} machine, this one is "
            f"{platform.machine()}. Leave it out of --isa."
        )
    folder = guest_folder()
    if not folder.is_dir():
        raise EmulationError(
            f"{isa} needs a Python for {wanted.architecture}, which is not here. {SETUP}"
        )
    return emulated_guest(folder, qemu, isa)


def emulated_guest(folder: Path, qemu: Qemu, isa: str) -> Emulator:
    """Return an emulator of the guest's architecture with the Python that lies in ``folder``."""
    root = folder / "root"
    cpu = INSTRUCTION_SETS[isa].cpu
    return Emulator(
        isa=isa,
        cpu=cpu,
        qemu=qemu.version,
        onnxruntime=GUEST.onnxruntime,
        numpy=GUEST.numpy,
        command=(str(qemu.path), "-cpu", cpu, "-L", str(root), str(root / GUEST.python)),
        environment=ONE_THREAD
        | {
            "PYTHONHOME": str(root / "usr"),
            "PYTHONPATH": str(folder / "site"),
            "PYTHONNOUSERSITE": "1",
        },
    )


def find_qemu(architecture: str) -> Qemu | None:
    """Return QEMU's user mode for ``architecture``: what was set up here, else the system's."""
    for path in _candidates(architecture):
        found = _version_of(path)
        if found and tuple(map(int, found.split(".")[:2])) >= OLDEST_QEMU:
            return Qemu(path=path, version=found)
    return None


def _candidates(architecture: str) -> Iterator[Path]:
    own = qemu_folder() / f"qemu-{architecture}"
    if own.is_file():
        yield own
    for name in (f"qemu-{architecture}", f"qemu-{architecture}-static"):
        if found := shutil.which(name):
            yield Path(found)


def _version_of(qemu: Path) -> str:
    try:
        answer = subprocess.run(
            [qemu, "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # made for another machine, or not executable
        return ""
    found = re.search(r"version (\d+\.\d+(?:\.\d+)*)", answer.stdout)
    return found[1] if found else ""
