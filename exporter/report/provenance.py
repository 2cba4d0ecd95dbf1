"""How the compared models were made, and where they were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.report.not_measured import DESCRIBED, NotMeasured


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where the measurements were made."""

    __pydantic_config__ = DESCRIBED

    cpu: str
    """Name of the processor."""
    architecture: str
    """Such as x86_64 or aarch64."""
    instruction_sets: tuple[str, ...] | NotMeasured
    """Those that decide how fast int8 is, as far as this CPU has them."""
    cores: int
    """Logical cores this process may use."""
    load_average: float | NotMeasured
    """Processes that wanted a core in the last minute, on average."""
    governor: str | NotMeasured
    """The frequency governor; anything but performance makes times vary."""
    operating_system: str
    """Name and version."""
    python: str
    """Version of Python."""
    onnxruntime: str
    """Version of ONNX Runtime."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReport:
    """One stage of the build."""

    __pydantic_config__ = DESCRIBED

    name: str
    """Its name."""
    seconds: float
    """How long it took this time."""
    cached: bool
    """Whether its result was already there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerWidth:
    """A layer that lost channels."""

    __pydantic_config__ = DESCRIBED

    layer: str
    """Its name in the network."""
    before: int
    """Channels of the dense model."""
    after: int
    """Channels of the small model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PruningReport:
    """What was removed, and proof that removing it changed nothing else."""

    __pydantic_config__ = DESCRIBED

    criterion: str
    """Importance score."""
    unit: str
    """What was removed: channels or weights."""
    asked_share: float
    """Share that was asked to be removed, 0 to 1."""
    removed_share: float
    """Share that was removed, 0 to 1; widths are rounded to what the target's kernels like."""
    layers: tuple[LayerWidth, ...]
    """Widths before and after."""
    parameters_before: int
    """Weights and biases of the dense model."""
    parameters_after: int
    """Weights and biases of the small model."""
    macs_before: int
    """Multiply-accumulates of the dense model, one image."""
    macs_after: int
    """Multiply-accumulates of the small model, one image."""
    fold_error: float
    """Largest logit difference, masked against folded, relative to the largest logit."""
    shrink_error: float
    """Largest logit difference, folded against shrunk, relative to the largest logit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizationReport:
    """How the int8 model was made, and what ONNX Runtime really executes."""

    __pydantic_config__ = DESCRIBED

    method: str
    """Range method of the calibration."""
    images: int
    """Calibration images."""
    integer: Mapping[str, int]
    """Operators that run as integer kernels, counted."""
    floating: Mapping[str, int]
    """Operators that run in float, counted."""
    seven_bit_layers: tuple[str, ...]
    """Layers whose weights were limited to 7 bits because 8 could saturate on older CPUs."""
