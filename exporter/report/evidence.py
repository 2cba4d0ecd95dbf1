"""What the accuracy and the times in the report rest on, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.report.not_measured import DESCRIBED, NotMeasured


@dataclass(frozen=True, kw_only=True, slots=True)
class Confidence:
    """How sure a model is of its answers, on the test images."""

    __pydantic_config__ = DESCRIBED

    mean: float
    """Mean of the largest softmax value, in percent."""
    calibration_error: float
    """Expected calibration error, 15 bins, in percentage points (Guo 2017)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassAccuracy:
    """One class, from dense float to what ships."""

    __pydantic_config__ = DESCRIBED

    name: str
    """Its name."""
    count: int
    """Its test images."""
    before: float
    """Its images that the dense float model classifies correctly, in percent."""
    after: float
    """Its images that the shipped model classifies correctly, in percent."""
    drop_points: float
    """before minus after, in percentage points."""
    lost: int
    """Its images that only the dense float model classifies correctly."""
    gained: int
    """Its images that only the shipped model classifies correctly."""
    mcnemar_p: float
    """Exact McNemar test of this class, times the number of classes (Bonferroni), at most 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Top5:
    """How often the right class is among the five likeliest."""

    __pydantic_config__ = DESCRIBED

    before: float
    """Of the dense float model, in percent."""
    after: float
    """Of what ships, in percent."""
    drop_points: float
    """before minus after, in percentage points."""
    drop_ci: tuple[float, float]
    """95 % confidence interval of drop_points."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLoss:
    """What one step of the build cost, on the same images as all others."""

    __pydantic_config__ = DESCRIBED

    step: str
    """pruning, export (from torch to ONNX) or quantization; "pruning and quantization" where a
    pruned int8 file was compared without its float one."""
    before: str
    """The model before it."""
    after: str
    """The model after it."""
    top1_before: float
    """Top-1 before it, in percent."""
    top1_after: float
    """Top-1 after it, in percent."""
    drop_points: float
    """Their difference in percentage points; negative if the step gained."""
    drop_ci: tuple[float, float]
    """95 % confidence interval of drop_points."""
    mcnemar_p: float
    """Exact McNemar test: how likely chance alone gives a change as large."""
    changed_share: float
    """Share of predictions that differ, 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyEvidence:
    """How far the drop from dense float to what ships can be trusted."""

    __pydantic_config__ = DESCRIBED

    mcnemar_p: float
    """Exact McNemar test: how likely chance alone gives a drop or gain as large, were both models
    equally good."""
    detectable_drop_points: float
    """The smallest drop that so many images, so many of them flipping, show with a power of 80 % at
    a significance of 5 % (Connor 1987), in percentage points."""
    dense_confidence: Confidence
    """Of the dense float model."""
    shipped_confidence: Confidence
    """Of what ships."""
    top5: Top5 | None
    """Null where there are ten classes or fewer."""
    classes: tuple[ClassAccuracy, ...]
    """Every class that has test images, by its number."""
    steps: tuple[StepLoss, ...]
    """Which step of the build cost what."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SettingTimes:
    """Dense float and what ships, in turns, with other threads or a larger batch."""

    __pydantic_config__ = DESCRIBED

    threads: int
    """Threads of ONNX Runtime."""
    batch: int
    """Images of one run."""
    dense_ms: float
    """Median time of a run of dense float, in milliseconds."""
    shipped_ms: float
    """Median time of a run of what ships, in milliseconds."""
    speedup: float
    """Dense float time over the time of what ships: median of paired, interleaved blocks."""
    speedup_ci: tuple[float, float]
    """Its 95 % confidence interval."""
    noise: float
    """Noise floor of this setting, as in LatencyEvidence."""
    beyond_noise: bool
    """Whether the whole confidence interval lies outside the noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColdStart:
    """What a fresh process takes until its first answer; medians over several processes."""

    __pydantic_config__ = DESCRIBED

    model: str
    """dense, small or int8."""
    starts: int
    """Processes that were started."""
    session_ms: float
    """Time to load the file and optimize it, in milliseconds."""
    first_run_ms: float
    """Time of the first image, in milliseconds."""
    peak_bytes: int | NotMeasured
    """Peak memory of the process, Python and ONNX Runtime included."""
    added_bytes: int | NotMeasured
    """What of it came after both were loaded: the model, its session and its first run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyEvidence:
    """How far the speed-up can be trusted."""

    __pydantic_config__ = DESCRIBED

    noise: float
    """Noise floor of this run, as a factor from 1 on: what ships was opened and timed twice, as if
    it were two models; this is the end of that ratio's 95 % confidence interval farther from 1."""
    same_file_ratio: float
    """The ratio itself; 1 on a machine without noise."""
    same_file_ratio_ci: tuple[float, float]
    """Its 95 % confidence interval."""
    beyond_noise: bool
    """Whether the whole confidence interval of the speed-up lies outside the noise."""
    settings: tuple[SettingTimes, ...] = ()
    """Other threads and batches; measured with --thorough."""
    starts: tuple[ColdStart, ...] = ()
    """Cold starts; measured with --thorough."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What the accuracy and the times rest on."""

    __pydantic_config__ = DESCRIBED

    accuracy: AccuracyEvidence
    """Of the drop from dense float to what ships."""
    latency: LatencyEvidence
    """Of the speed-up."""
