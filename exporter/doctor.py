"""Whether this machine has what a build needs, and how to get what is missing."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from exporter.errors import EmulationError

DISTRIBUTION = "edge-exporter"
MODULES = {
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "onnxscript": "onnxscript",
    "pillow": "PIL",
    "pydantic": "pydantic",
    "safetensors": "safetensors",
    "scikit-learn": "sklearn",
    "torch": "torch",
    "torch-pruning": "torch_pruning",
    "torchvision": "torchvision",
    "zstandard": "zstandard",
}
"""What a build imports, by the name it is installed by."""
RIVALS = {
    "onnxruntime-tools": "it puts modules of its own in the way of onnxruntime.quantization",
    "onnxruntime-gpu": "it writes over onnxruntime's files",
    "onnxruntime-directml": "it writes over onnxruntime's files",
    "onnxruntime-openvino": "it writes over onnxruntime's files",
    "onnxruntime-training": "it writes over onnxruntime's files",
    "ort-nightly": "it writes over onnxruntime's files",
}
"""Distributions that break onnxruntime when they are installed beside it, and why."""
OLDEST_PYTHON = (3, 11)
ENOUGH_SPACE = 2e9
"""Bytes; a build on CIFAR-10 keeps about 0.5 GB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "note", "missing"]
    """``missing`` stops a build; ``note`` matters only to some."""
    found: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """Everything that was looked at."""

    healthy: bool
    """Whether nothing that a build needs is missing."""
    checks: tuple[Check, ...]


def diagnose(cache: Path, data_root: Path) -> Diagnosis:
    """Return what is there and what is missing; libraries are imported to be sure they load."""
    checks = (
        _python(),
        *(_library(name, module) for name, module in MODULES.items()),
        *_rivals(),
        *_hardware(),
        _cifar10(data_root),
        _emulation(),
        _ssh(),
        _space("cache", cache),
    )
    return Diagnosis(healthy=all(check.status != "missing" for check in checks), checks=checks)


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Check(name="python", status="ok", found=found)
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return Check(
        name="python", status="missing", found=found, remedy=f"Use Python {wanted} or newer."
    )


def _library(name: str, module: str) -> Check:
    wanted = _oldest(name)
    remedy = f"python -m pip install '{name}{'>=' + wanted if wanted else ''}'"
    try:
        found = version(name)
        importlib.import_module(module)
    except PackageNotFoundError:
        return Check(name=name, status="missing", found="not installed", remedy=remedy)
    except Exception as error:  # a broken library may raise anything when it is loaded
        reason = f"{found} does not load: {type(error).__name__}: {error}".splitlines()[0]
        return Check(
            name=name, status="missing", found=reason, remedy=f"{remedy} --force-reinstall"
        )
    if wanted and _numbers(found) < _numbers(wanted):
        return Check(name=name, status="missing", found=f"{found}, too old", remedy=remedy)
    return Check(name=name, status="ok", found=found)


def _oldest(name: str) -> str:
    """Return the oldest version that will do, "" where this program itself isn't installed."""
    try:
        requirements = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return ""
    for requirement in requirements:
        match = re.match(rf"{re.escape(name)}\s*>=\s*([0-9.]+)", requirement)
        if match:
            return match[1]
    return ""


def _numbers(text: str) -> tuple[int, ...]:
    """Return ``(2, 14)`` for 2.14, 2.14.0 and 2.14+cpu."""
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    numbers = [int(part) for part in release[0].split(".")] if release else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _rivals() -> Iterator[Check]:
    for name, reason in RIVALS.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        yield Check(
            name=name,
            status="note",
            found=f"{found}; {reason}",
            remedy=f"python -m pip uninstall -y {name} && "
            "python -m pip install --force-reinstall onnxruntime",
        )


def _hardware() -> Iterator[Check]:
    yield from _loadable("cpu", _cpu)
    yield from _loadable("accelerator", _accelerator)


def _loadable(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from look()
    except ImportError:  # reported above, by the library that is missing
        yield Check(name=name, status="note", found="unknown until the libraries above load")


def _cpu() -> Iterator[Check]:
    from exporter.report.not_measured import NotMeasured
    from exporter.verification.machine import describe_machine

    machine = describe_machine()
    sets = machine.instruction_sets
    yield Check(name="cpu", status="ok", found=f"{machine.cpu} ({machine.architecture})")
    if isinstance(sets, NotMeasured):
        yield Check(name="instruction sets", status="note", found=sets.not_measured)
    elif {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}.isdisjoint(sets):
        yield Check(
            name="instruction sets",
            status="note",
            found=f"{', '.join(sets) or 'none'}; no int8 dot product (VNNI, dotprod)",
            remedy="int8 gains less here; timings on the device itself are what counts.",
        )
    else:
        yield Check(name="instruction sets", status="ok", found=", ".join(sets))
    limit = os.environ.get("OMP_NUM_THREADS")
    yield Check(
        name="threads",
        status="ok",
        found=f"{machine.cores} usable cores" + (f", OMP_NUM_THREADS={limit}" if limit else ""),
    )


def _accelerator() -> Iterator[Check]:
    import torch

    found = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; not needed"
    yield Check(name="accelerator", status="ok", found=found)


def _cifar10(root: Path) -> Check:
    from exporter.data.cifar10 import FILES, FOLDER

    folder = root.expanduser() / FOLDER
    if all((folder / file).is_file() for file in FILES):
        return Check(name="cifar10", status="ok", found=str(folder))
    return Check(
        name="cifar10",
        status="note",
        found=f"not in {folder}; only --data cifar10 needs it",
        remedy="exporter build --data cifar10 --download (170 MB)",
    )


def _emulation() -> Check:
    """Check which instruction sets ``--isa`` can emulate; a build needs none of them."""
    from exporter.emulation.emulator import SETUP, find_emulator
    from exporter.emulation.instruction_sets import INSTRUCTION_SETS

    name = "emulated sets"
    found, refusals = [], {}
    for isa in (entry.name for entry in INSTRUCTION_SETS.values() if entry.cpu):
        try:
            found.append(f"{isa} (QEMU {find_emulator(isa).qemu})")
        except (EmulationError, PackageNotFoundError) as error:  # the latter is told above
            refusals[isa] = str(error)
    if not refusals:
        return Check(name=name, status="ok", found=", ".join(found))
    lacking = f"not {', '.join(refusals)}; only --isa needs them"
    fetchable = any(refusal.endswith(SETUP) for refusal in refusals.values())
    return Check(
        name=name,
        status="note",
        found="; ".join([*([", ".join(found)] if found else []), lacking]),
        remedy="exporter setup-emulation" if fetchable else next(iter(refusals.values())),
    )


def _ssh() -> Check:
    found = shutil.which("ssh")
    if found:
        return Check(name="ssh", status="ok", found=found)
    return Check(
        name="ssh",
        status="note",
        found="not installed; only `exporter check` needs it",
        remedy="Install OpenSSH's client (Debian: apt-get install openssh-client).",
    )


def _space(name: str, folder: Path) -> Check:
    """Check the folder's disk, by the nearest folder above that exists."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not os.access(nearest, os.W_OK) or not nearest.is_dir():
        return Check(
            name=name,
            status="missing",
            found=f"{folder} cannot be written",
            remedy="Choose another folder with --cache or EXPORTER_CACHE.",
        )
    free = shutil.disk_usage(nearest).free
    found = f"{folder}, {free / 1e9:.1f} GB free"
    if free < ENOUGH_SPACE:
        return Check(
            name=name,
            status="note",
            found=found,
            remedy="Free some space, or choose another folder with --cache or EXPORTER_CACHE.",
        )
    return Check(name=name, status="ok", found=found)
