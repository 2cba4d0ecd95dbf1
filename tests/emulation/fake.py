"""This machine's own Python in the place of an emulated one."""

from __future__ import annotations

import os
import sys

import pytest
from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]  # has no stub
    __cpu_features__ as cpu_features,
)

from exporter.emulation.emulator import Emulator
from exporter.emulation.instruction_sets import INSTRUCTION_SETS, InstructionSet

PRESENT = next(name for name, found in cpu_features.items() if found)
ABSENT = next(name for name, found in cpu_features.items() if not found)


def emulator(
    monkeypatch: pytest.MonkeyPatch, isa: str, *, has: str = PRESENT, lacks: str = ABSENT
) -> Emulator:
    """Return an emulator of ``isa`` that emulates nothing, and ask for these features there."""
    known = INSTRUCTION_SETS[isa]
    entry = InstructionSet(
        name=isa,
        architecture=known.architecture,
        flag=known.flag,
        cpu="none",
        has=has,
        lacks=lacks,
    )
    monkeypatch.setitem(INSTRUCTION_SETS, isa, entry)
    return Emulator(
        isa=isa,
        cpu="none",
        qemu="0.0",
        onnxruntime="0.0",
        numpy="0.0",
        command=(sys.executable,),
        environment={**os.environ},
    )
