"""Where a model is going to run: one frozen literal per target, read by every stage that cares.

Nothing branches on a target's name; behaviour follows its fields. The facts behind the values:

* U8S8 (unsigned activations, signed weights) is the only format with fast convolution kernels on
  every CPU ONNX Runtime supports; per-channel weight scales cost no time.
* x86 CPUs without VNNI add two u8*s8 products into a saturating 16-bit lane (``vpmaddubsw``):
  ``255 * 127 * 2 > 32767``. Weights of 7 bits cannot saturate (``255 * 64 * 2 < 32768``).
* ONNX Runtime's symmetric convolution kernels want channel counts in multiples of 4 to 16,
  depending on the CPU; 16 suits all of them, and its float kernels work on blocks of 16 or 8.
* In WebAssembly both factors are widened to 16 bits and each pair of products is added in 32
  (``i32x4.dot_i16x8``, onnxruntime/core/mlas/lib/qgemm_kernel_wasmsimd.cpp), which cannot saturate.
  The relaxed-SIMD kernel beside it is used only where a test at start (``HasUSDot``) finds the dot
  product exact.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from exporter.errors import ConfigError

SevenBit = Literal["never", "where-needed", "always"]
Scheme = Literal["int8", "float"]
FileFormat = Literal["onnx", "ort"]

OPERATORS = "required_operators.config"
"""File that tells a minimal build of ONNX Runtime which operators it must have."""
WEB_PAGE = ("index.html", "classify.mjs")
"""Files that run a model in a browser."""


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
    # How the finished network is packed up. A stage that depends on one of these is given it by
    # itself, so they are no part of a target's digest, which decides what must be quantized anew.
    scheme: Scheme = field(default="int8", compare=False)
    """What ships: the quantized file, or the float file that was to be quantized."""
    min_speedup: float = field(default=1.2, compare=False)
    """The speed-up over the dense float model that a build wants where nobody says otherwise."""
    fixed_batch: bool = field(default=False, compare=False)
    """Whether the file's shapes say one image per run; else the caller chooses how many."""
    compact: bool = field(default=False, compare=False)
    """Whether names and metadata give way to a small download."""
    file_format: FileFormat = field(default="onnx", compare=False)
    """ort is ONNX Runtime's own format, which its minimal builds read and nothing else."""
    web_page: bool = field(default=False, compare=False)
    """Whether the bundle holds a page that runs the file in a browser."""

    @property
    def file_name(self) -> str:
        """What the device loads is called in a bundle."""
        return f"model.{self.file_format}"

    @property
    def files(self) -> tuple[str, ...]:
        """What lies in a bundle for this target, beside what lies in all of them."""
        beside = ("model.onnx", OPERATORS) if self.file_format == "ort" else ()
        return (self.file_name, *beside, *(WEB_PAGE if self.web_page else ()))


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
    Target(
        name="web-int8",
        summary="browsers: the smallest download, and a page that tests it",
        seven_bit_weights="never",
        isas=("wasm-simd",),
        fixed_batch=True,
        compact=True,
        web_page=True,
    ),
    Target(
        name="mobile-int8",
        summary="phones, and the x86 emulators of phones: minimal builds of ONNX Runtime",
        seven_bit_weights="where-needed",
        isas=("arm64-neon", "arm64-dotprod", "avx2"),
        fixed_batch=True,
        file_format="ort",
    ),
    Target(
        name="cpu-fp32",
        summary="any CPU: the pruned float model, not quantized",
        scheme="float",
        min_speedup=0.95,  # not slower; single percents are within what timing can tell
        seven_bit_weights="never",
        isas=("avx2", "avx512", "arm64-neon"),
    ),
)

TARGETS: dict[str, Target] = {target.name: target for target in _TARGETS}

_REFUSED = {
    "4": "With 4-bit weights convolutions are unpacked to float in every run: 0.87 ms where 8 bits "
    "take 0.15 and float 0.44.",
    "16": "With 16-bit activations ONNX Runtime's CPU kernels compute in float: 0.78 ms where 8 "
    "bits take 0.15 and float 0.44.",
}
"""By number of bits: a residual network on AVX512-VNNI, one thread, ONNX Runtime 1.32."""
_BITS = re.compile(r"(?:int|[aw]|\b)(4|16)(?!\d)")


def find_target(name: str) -> Target:
    """Return the target called ``name``; raises ConfigError that lists the known ones."""
    if name in TARGETS:
        return TARGETS[name]
    asked = _BITS.search(name)
    reason = f" {_REFUSED[asked[1]]}" if asked else ""
    raise ConfigError(f"Unknown target {name!r}. Known: {', '.join(TARGETS)}.{reason}")


def check_quantizes(target: Target) -> None:
    """Raise ConfigError where what ships for ``target`` is a float file."""
    if target.scheme == "float":
        raise ConfigError(
            f"--target {target.name} ships the float file as `convert` wrote it; there is nothing "
            "to quantize. Choose a target that ships int8."
        )


def check_plannable(target: Target, budget: str | None) -> None:
    """Raise ConfigError where a file's size or time is asked for that cannot be foretold.

    Args:
        target: what the file is for.
        budget: name of the option that limits the network, None where a share is asked for.
    """
    if target.scheme == "float" and budget in ("max_kb", "max_ms"):
        flag = budget.replace("_", "-")
        raise ConfigError(
            f"--{flag} plans an int8 file, but --target {target.name} ships a float one. Use "
            "--max-parameters (4 bytes each) or --max-macs."
        )
