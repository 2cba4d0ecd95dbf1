"""The report of a build or a verification, as plain data.

The same objects become ``report.json`` (described by ``schema.json``), the table on the terminal
and ``report.md``. The text below a field is its description in the schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from exporter.report.device import DeviceReport
from exporter.report.evidence import Evidence
from exporter.report.instruction_sets import InstructionSetReport, InstructionSetResult
from exporter.report.intake import IntakeReport
from exporter.report.not_measured import DESCRIBED, NotMeasured
from exporter.report.provenance import (
    BudgetReport,
    DistillationReport,
    LayerSaturation,
    LayerWidth,
    LeftAlone,
    Machine,
    PruningReport,
    QuantizationReport,
    RoundReport,
    SaturationReport,
    StageReport,
)

__all__ = [
    "BudgetReport",
    "BuildReport",
    "DeviceReport",
    "DistillationReport",
    "Evidence",
    "Flips",
    "Gate",
    "InstructionSetReport",
    "InstructionSetResult",
    "KernelGap",
    "LayerSaturation",
    "LayerWidth",
    "LeftAlone",
    "Machine",
    "ModelReport",
    "Models",
    "NotMeasured",
    "PruningReport",
    "QuantizationReport",
    "RoundReport",
    "SaturationReport",
    "ShippedModel",
    "StageReport",
    "WorstClass",
]

Scalar = str | int | float | bool | list[str] | None
ShippedModel = Literal["int8", "small", "dense"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelReport:
    """One of the compared models, measured in ONNX Runtime with the bytes as they are shipped."""

    __pydantic_config__ = DESCRIBED

    path: str
    """The .onnx file, absolute or relative to the working folder."""
    sha256: str
    """Digest of the file."""
    bytes: int
    """Size of the file."""
    gzip_bytes: int
    """Size of the download, compressed by gzip -9."""
    zstd_bytes: int
    """Size of the download, compressed by zstd -19."""
    parameters: int
    """Weights and biases."""
    macs: int
    """Multiply-accumulates of one image."""
    top1: float
    """Test images classified correctly, in percent."""
    correct: int
    """Test images classified correctly."""
    total: int
    """Test images."""
    p50_ms: float
    """Median time of one image, in milliseconds."""
    p90_ms: float
    """Time that 90 % of the runs stay below, in milliseconds."""
    runs: int
    """Timed runs behind p50_ms and p90_ms."""
    p50_ci_ms: tuple[float, float] | None = None
    """95 % confidence interval of the median time (bootstrap over blocks of runs)."""
    p99_ms: float | NotMeasured | None = None
    """Time that 99 % of the runs stay below, where there are 1,000 runs or more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """The models that were compared."""

    __pydantic_config__ = DESCRIBED

    dense: ModelReport
    """The float model before pruning: the baseline of every gate."""
    small: ModelReport | None
    """The float model after pruning; null where nothing was pruned."""
    int8: ModelReport | None
    """The quantized model; null where the target ships a float one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """One condition the shipped model had to meet."""

    __pydantic_config__ = DESCRIBED

    name: str
    """The command line's option without its dashes, as max-drop, min-speedup, max-kb, max-ms; or
    drop- with an instruction set that was emulated: max-drop there."""
    limit: float
    """The accepted extreme; a measurement equal to it passes."""
    unit: str
    """Unit of limit and measured."""
    measured: float | NotMeasured
    """What was measured, or the bad end of its confidence interval."""
    passed: bool
    """Whether the condition was met."""
    confidence: float | None = None
    """Confidence of the interval whose end was gated; null where the measured value was."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flips:
    """Test images whose predicted class changed from dense float to what ships, by direction."""

    __pydantic_config__ = DESCRIBED

    right_to_wrong: int
    """Images that only the dense float model classifies correctly."""
    wrong_to_right: int
    """Images that only the shipped model classifies correctly."""
    wrong_to_wrong: int
    """Images that both get wrong, in different ways."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorstClass:
    """The class that lost most from dense float to what ships."""

    __pydantic_config__ = DESCRIBED

    name: str
    """Its name."""
    before: float
    """Its images that the dense float model classifies correctly, in percent."""
    after: float
    """Its images that the shipped model classifies correctly, in percent."""
    drop_points: float
    """before minus after, in percentage points."""
    count: int
    """Its test images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelGap:
    """The int8 model with integer kernels against the same file computed in float.

    Rounding alone changes few predictions. A drop here means that this CPU's kernels saturate or
    are wrong, not that quantization lost accuracy.
    """

    __pydantic_config__ = DESCRIBED

    drop_points: float
    """Top-1 computed in float minus top-1 of the integer kernels, in percentage points."""
    changed_share: float
    """Share of predictions that differ, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildReport:
    """Result of `exporter build` and `exporter verify`."""

    __pydantic_config__ = DESCRIBED

    passed: bool
    """Whether every gate was met."""
    target: str
    """Where the model is meant to run."""
    shipped: ShippedModel = "int8"
    """Which of the models ships, by its key in models: what all comparisons below are about."""
    bundle: str | None
    """The bundle's folder; null if there is none, as after a failed gate."""
    models: Models
    """The compared models, side by side."""
    drop_points: float
    """Top-1 of dense float minus top-1 of what ships, in percentage points."""
    drop_ci: tuple[float, float]
    """95 % confidence interval of drop_points (same images, Tango's score interval)."""
    changed_share: float
    """Share of predictions that differ between dense float and what ships, 0 to 1."""
    flips: Flips
    """Which way they differ."""
    worst_class: WorstClass
    """The class that lost most."""
    majority_top1: float
    """Top-1 of always answering the most frequent class of the test images, in percent: what a
    model has to beat to have learned anything."""
    kernel_gap: KernelGap | None
    """Integer kernels against the same file computed in float; null where float ships."""
    speedup: float
    """Dense float time over the time of what ships: median of paired, interleaved blocks."""
    speedup_ci: tuple[float, float]
    """95 % confidence interval of speedup (bootstrap over the pairs)."""
    size_ratio: float
    """Bytes of what ships over bytes of dense float."""
    instruction_sets: tuple[InstructionSetReport, ...] = ()
    """What ships on each instruction set that the target promises or that was asked for."""
    devices: tuple[DeviceReport, ...] = ()
    """What ships on other machines, by the bundle's own runner; `exporter merge` adds them."""
    gates: tuple[Gate, ...]
    """The conditions and how they came out."""
    threads: int
    """Threads of ONNX Runtime while timing."""
    pinned_cores: tuple[int, ...] | NotMeasured
    """Logical cores that the process was pinned to while timing."""
    machine: Machine
    """Where this was measured."""
    evidence: Evidence | None = None
    """How far drop and speed-up can be trusted, and which step of the build cost what."""
    intake: IntakeReport | None = None
    """The ONNX file that was brought along; null where the network was trained here."""
    pruning: PruningReport | None = None
    """What was removed; null where nothing was, or where verify got finished files."""
    quantization: QuantizationReport | None = None
    """How int8 was made; null where verify got finished files."""
    stages: tuple[StageReport, ...] = ()
    """The stages of the build, in order."""
    warnings: tuple[str, ...] = ()
    """What looked wrong on the way, as it was said then."""
    recipe: Mapping[str, Scalar | Mapping[str, Scalar]] = field(default_factory=dict)
    """The resolved recipe: every option of the build."""

    @property
    def shipped_model(self) -> ModelReport:
        """The report on the model that ships."""
        found: ModelReport | None = getattr(self.models, self.shipped)
        assert found is not None
        return found
