"""How the compared models were made, and where they were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.report.float_layers import FloatLayersReport
from exporter.report.not_measured import DESCRIBED, NotMeasured
from exporter.report.recovery import RecoveryReport


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
class LeftAlone:
    """A layer whose channels cannot be removed."""

    __pydantic_config__ = DESCRIBED

    layer: str
    """Its name in the network."""
    width: int
    """Its channels."""
    reason: str
    """Why they stay."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetReport:
    """A limit that the network was pruned to."""

    __pydantic_config__ = DESCRIBED

    name: str
    """The command line's option without its dashes: max-parameters, max-macs, max-kb, max-ms."""
    limit: float
    """The limit, in the option's unit."""
    planned: float
    """What pruning reckoned the small model to have; bytes and times are measured for the gates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundReport:
    """One round of pruning."""

    __pydantic_config__ = DESCRIBED

    removed_share: float
    """Share gone so far, 0 to 1."""
    top1_before: float
    """Validation images classified correctly right after the removal, in percent."""
    top1_after: float
    """The same after fine-tuning."""
    epochs: int
    """Epochs of fine-tuning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationReport:
    """What the teacher brought to the last fine-tuning; the better network was kept."""

    __pydantic_config__ = DESCRIBED

    top1_with: float
    """Validation images classified correctly with the teacher's opinion, in percent."""
    top1_without: float
    """The same without it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PruningReport:
    """What was removed, and proof that removing it changed nothing else."""

    __pydantic_config__ = DESCRIBED

    criterion: str
    """Importance score."""
    unit: str
    """What was removed: channels or weights."""
    asked_share: float | None
    """Share that was asked to be removed, 0 to 1; null where a budget was."""
    budget: BudgetReport | None
    """The budget; null where a share was asked for."""
    removed_share: float
    """Share that was removed, 0 to 1; widths are rounded to what the target's kernels like."""
    dead_channels: int
    """Channels that went first because they never changed an output; part of removed_share."""
    rounds: tuple[RoundReport, ...]
    """The rounds, in order."""
    distillation: DistillationReport | None
    """What the teacher brought; null where that was not to be found out (--distill-auto)."""
    layers: tuple[LayerWidth, ...]
    """Widths before and after."""
    left_alone: tuple[LeftAlone, ...]
    """Layers that kept all their channels because they had to."""
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
class LayerSaturation:
    """Whether the sums of an integer layer overflow 16 bits on an x86 CPU without VNNI."""

    __pydantic_config__ = DESCRIBED

    name: str
    """Its name in the file."""
    operator: str
    """Conv, Gemm or MatMul."""
    weight_bits: int
    """Bits that its weights take up: 7 or 8."""
    safe: bool
    """Whether it is proven that no image can make it overflow."""
    risky_share: float
    """Share of its pairs of weights that some activations would push out of 16 bits, 0 to 1."""
    clipped_share: float | NotMeasured
    """Share of its pairs of products that were clipped on calibration images, 0 to 1."""
    largest_error: float | NotMeasured
    """Largest change of one of its outputs by clipping, as a share of its largest |output|."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SaturationReport:
    """Saturation on x86 CPUs without VNNI: proven from the weights, measured where that fails."""

    __pydantic_config__ = DESCRIBED

    images: int
    """Calibration images that were measured on; 0 where nothing was, or nothing had to be."""
    layers: tuple[LayerSaturation, ...]
    """The integer layers, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizationReport:
    """How the int8 model was made, and what ONNX Runtime really executes."""

    __pydantic_config__ = DESCRIBED

    method: str
    """Range method of the calibration."""
    images: int
    """Calibration images."""
    aware_epochs: int
    """Epochs of quantization-aware fine-tuning; 0 for none."""
    integer: Mapping[str, int]
    """Operators that run as integer kernels, counted."""
    floating: Mapping[str, int]
    """Operators that run in float, counted."""
    reasons: Mapping[str, str]
    """Why an operator stays float, by operator; conversions between integer and float have none."""
    seven_bit_layers: tuple[str, ...]
    """Layers whose weights were limited to 7 bits because 8 could saturate on older CPUs."""
    saturation: SaturationReport
    """Which layers saturate on x86 CPUs without VNNI."""
    recovery: RecoveryReport | None = None
    """The search for a smaller drop; null where none was asked for (--recover)."""
    float_layers: FloatLayersReport | None = None
    """Layers that stay float for speed or by name; null where none may (--float-layers)."""
