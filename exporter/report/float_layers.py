"""What the report says about layers that were left in float for speed (``--float-layers``)."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.report.not_measured import DESCRIBED, NotMeasured


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatTrial:
    """A change of one layer, and the whole file timed with and without it, in turns."""

    __pydantic_config__ = DESCRIBED

    layer: str
    """Its name in the file."""
    change: str
    """What was changed: left in float, or padded to 4 input channels."""
    int8_ms: float
    """Time of the layer in the file before, by the profile."""
    float_ms: float | None
    """Time of the layer in the float file, by the profile; null where that is not the point."""
    time_ratio: float | NotMeasured
    """Time of one image with the change over that without, one thread, median of paired,
    interleaved blocks; not measured where it cannot be done."""
    time_ratio_ci: tuple[float, float] | None
    """95 % confidence interval of time_ratio (bootstrap over the pairs)."""
    noise: float | None
    """The file without the change against itself, timed beside it: a gain inside that is none."""
    correct: int | NotMeasured
    """Validation images that the file with the change classifies correctly."""
    kept: bool
    """Whether it was kept: faster beyond the noise, and no image lost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FloatLayersReport:
    """Layers that stay float in the int8 file, and what was tried to find them."""

    __pydantic_config__ = DESCRIBED

    asked: str
    """What was asked for: slow, or the layers by name."""
    layers: tuple[str, ...]
    """Layers that stay float for that, in graph order."""
    padded_stem: str | None
    """Layer whose 3 input channels became 4 in the file; null where that was not faster."""
    images: int
    """Validation images that had a say; 0 where layers were named."""
    correct: int
    """How many of them the file without any change classifies correctly."""
    trials: tuple[FloatTrial, ...]
    """What was tried, in order, each beside all that was kept before it."""
    time_ratio: float | None
    """Time of one image with all that was kept over that without any of it; null where nothing
    was kept, or layers were named."""
    time_ratio_ci: tuple[float, float] | None
    """95 % confidence interval of time_ratio (bootstrap over the pairs)."""


COLUMNS = ("layer", "change", "int8", "float", "time of the file", "noise", "correct", "kept")
SHORT = ("layer", "change", "time of the file", "noise", "kept")
"""The columns that fit beside each other on a terminal."""


def float_layers_summary(found: FloatLayersReport) -> str:
    """Return in a sentence or two which layers stay float, why, and what that gains."""
    if found.asked != "slow":
        return f"Left in float as asked for: {', '.join(found.layers)}."
    kept = [f"{trial.layer} {trial.change}" for trial in found.trials if trial.kept]
    if not found.trials:
        return "No layer takes longer in int8 than in float here, so all of them are integers."
    if not kept or found.time_ratio is None or found.time_ratio_ci is None:
        return (
            f"Of {len(found.trials)} layers that take long in int8 none makes the file faster in "
            "another form, so all of them are integers."
        )
    low, high = found.time_ratio_ci
    return (
        f"For speed: {', '.join(kept)}. An image takes {found.time_ratio:.3f} times as long as "
        f"without that (95 % CI {low:.3f} to {high:.3f})."
    )


def trial_rows(found: FloatLayersReport) -> list[list[str]]:
    """Return a row of cells for each trial, to go under ``COLUMNS``."""
    return [_row(trial, found.images) for trial in found.trials]


def trial_notes(found: FloatLayersReport) -> list[str]:
    """Return why trials could not be made, one sentence each."""
    return [
        f"{trial.layer} {trial.change}: {trial.time_ratio.not_measured}"
        for trial in found.trials
        if isinstance(trial.time_ratio, NotMeasured)
    ]


def _row(trial: FloatTrial, images: int) -> list[str]:
    measured = not isinstance(trial.time_ratio, NotMeasured)
    low, high = trial.time_ratio_ci or (0.0, 0.0)
    return [
        trial.layer,
        trial.change,
        f"{1000 * trial.int8_ms:.1f} µs",
        "" if trial.float_ms is None else f"{1000 * trial.float_ms:.1f} µs",
        f"{trial.time_ratio:.3f} ({low:.3f} to {high:.3f})" if measured else "not possible",
        "" if trial.noise is None else f"{trial.noise:.3f}",
        "" if isinstance(trial.correct, NotMeasured) else f"{trial.correct:,} of {images:,}",
        "yes" if trial.kept else "no",
    ]
