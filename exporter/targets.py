"""Where a model is going to run: one frozen literal per target, read by every stage that cares.

Nothing branches on a target's name; behaviour follows its fields. The facts behind the values:

* U8S8 (unsigned activations, signed weights) is the only format with fast convolution kernels on
  every CPU ONNX Runtime supports; per-channel weight scales cost no time.
* x86 CPUs without VNNI add two u8*s8 products into a saturating 16-bit lane (``vpmaddubsw``):
  ``255 * 127 * 2 > 32767``. Weights of 7 bits cannot saturate (``255 * 64 * 2 < 32768``).
* ONNX Runtime's symmetric convolution kernels want channel counts in multiples of 4 to 16,
  depending on the CPU; 16 suits all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.errors import ConfigError

SevenBit = Literal["never", "where-needed", "always"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a device wants from the file it is given."""

    name: str
    summary: str
    seven_bit_weights: SevenBit
    """Which layers get weights in [-64, 64]: none, those that could saturate 16 bits, or all."""
    per_channel: bool = True
    channel_multiple: int = 16
    """Pruned widths are rounded to multiples of this."""
    isas: tuple[str, ...]
    """Instruction sets on which the file is meant to give the right answers."""


_TARGETS = (
    Target(
        name="cpu-int8",
        summary="one file that is right on every x86-64 and ARM64 CPU",
        seven_bit_weights="where-needed",
        isas=("avx2", "avx-vnni", "avx512", "avx512-vnni", "arm64-neon", "arm64-dotprod"),
    ),
    Target(
        name="cpu-int8-vnni",
        summary="x86 with VNNI: full 8-bit weights, the most accurate",
        seven_bit_weights="never",
        isas=("avx-vnni", "avx512-vnni"),
    ),
    Target(
        name="cpu-int8-avx2",
        summary="x86 without VNNI: 7-bit weights in every layer",
        seven_bit_weights="always",
        isas=("avx2", "avx512"),
    ),
    Target(
        name="arm64-int8",
        summary="ARM64: full 8-bit weights, no saturation there",
        seven_bit_weights="never",
        isas=("arm64-neon", "arm64-dotprod"),
    ),
)

TARGETS: dict[str, Target] = {target.name: target for target in _TARGETS}


def find_target(name: str) -> Target:
    """Return the target called ``name``; raises ConfigError that lists the known ones."""
    try:
        return TARGETS[name]
    except KeyError:
        known = ", ".join(TARGETS)
        raise ConfigError(f"Unknown target {name!r}. Known: {known}.") from None
