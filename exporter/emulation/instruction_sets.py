"""The instruction sets that ONNX Runtime has int8 kernels for, and how each can be run.

QEMU's user mode runs one program as another CPU. What ONNX Runtime then computes is exact, since it
chooses its kernels by what the emulated CPU says of itself; times mean nothing. QEMU translates
AVX2 from version 7.2 on, but neither AVX-512 nor VNNI in any version so far: those can only be
measured on a CPU that has them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from exporter.errors import ConfigError

NATIVE = "native"


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructionSet:
    """One set of int8 kernels."""

    name: str
    architecture: str
    """As ``platform.machine`` and QEMU name it."""
    flag: str
    """The feature in Linux's spelling (see ``verification.machine``) that these kernels need."""
    cpu: str = ""
    """QEMU's model of a CPU that has this set and none that comes after it; "" if there is none."""
    has: str = ""
    """Feature that numpy finds on that CPU ..."""
    lacks: str = ""
    """... and one that it must not find, since other kernels would run."""


_SETS = (
    InstructionSet(
        name="avx2",
        architecture="x86_64",
        flag="avx2",
        cpu="Haswell",
        has="AVX2",
        lacks="AVX512F",
    ),
    InstructionSet(name="avx-vnni", architecture="x86_64", flag="avx_vnni"),
    InstructionSet(name="avx512", architecture="x86_64", flag="avx512f"),
    InstructionSet(name="avx512-vnni", architecture="x86_64", flag="avx512_vnni"),
    InstructionSet(
        name="arm64-neon",
        architecture="aarch64",
        flag="asimd",
        cpu="cortex-a53",
        has="ASIMD",
        lacks="ASIMDDP",
    ),
    InstructionSet(
        name="arm64-dotprod",
        architecture="aarch64",
        flag="asimddp",
        cpu="cortex-a76",
        has="ASIMDDP",
        lacks="SVE",
    ),
)
"""Where a CPU has several of one architecture, ONNX Runtime takes the last."""

INSTRUCTION_SETS: dict[str, InstructionSet] = {entry.name: entry for entry in _SETS}


def parse_isas(text: str) -> tuple[str, ...]:
    """Return the instruction sets that ``--isa`` names, each once, without ``native``.

    Raises:
        ConfigError: one is unknown.
    """
    names = dict.fromkeys(part.strip() for part in text.split(","))
    for name in names:
        if name not in (NATIVE, *INSTRUCTION_SETS):
            raise ConfigError(
                f"--isa names {name!r}, which is no instruction set known here. "
                f"Known: {', '.join((NATIVE, *INSTRUCTION_SETS))}; separate them by commas."
            )
    return tuple(name for name in names if name != NATIVE)


def native_isa(flags: Collection[str]) -> str:
    """Return the instruction set whose kernels run on a CPU with these features, or ``native``."""
    found = [entry.name for entry in INSTRUCTION_SETS.values() if entry.flag in flags]
    return found[-1] if found else NATIVE
