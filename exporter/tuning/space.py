"""What a search may change about a build, and between which values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exporter.config import BuildConfig

if TYPE_CHECKING:
    from optuna import Trial

Value = str | float
Values = Mapping[str, Value]
"""By knob, what a trial chose."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Knob:
    """One choice of a trial."""

    name: str
    """Of the field of ``part`` that it sets."""
    part: str
    """Of ``BuildConfig``."""
    values: tuple[Value, ...]


KEPT = "kept"
"""The share of the dense network's multiply-adds that stays."""
LEAST_KEPT, STEP = 0.1, 0.05
WHOLE = 1.0
"""The share that stays where nothing is pruned."""
KNOBS = (
    Knob(name="criterion", part="prune", values=("wanda", "l1", "taylor", "fpgm")),
    Knob(name="allocate", part="prune", values=("layer", "global")),
    Knob(name="distill", part="prune", values=(0.7, 0.0)),
    Knob(name="correct", part="correct", values=("none", "bias", "equalize,bias")),
    Knob(name="float_layers", part="quantize", values=("none", "slow")),
)
"""Range methods are not among them: ``--method auto`` tries all of them in every trial."""
WIDTHS = "widths"
"""The choice of a network's widths, where there are several."""

FIRST: tuple[Values, ...] = tuple(
    {KEPT: kept, **{knob.name: knob.values[0] for knob in KNOBS}} for kept in (0.5, 0.25, WHOLE)
)
"""What is tried before anything is proposed: the first value of every knob, at three sizes."""


def chosen_by(trial: Trial, widths: tuple[str, ...]) -> Values:
    """Return what ``trial`` chooses; ``widths`` are those of the networks to choose from."""
    values: dict[str, Value] = {}
    if len(widths) > 1:
        values[WIDTHS] = trial.suggest_categorical(WIDTHS, widths)
    values[KEPT] = trial.suggest_float(KEPT, LEAST_KEPT, WHOLE, step=STEP)
    for knob in KNOBS:
        chosen = trial.suggest_categorical(knob.name, knob.values)
        assert isinstance(chosen, str | float)
        values[knob.name] = chosen
    return values


def with_width(config: BuildConfig, values: Values) -> BuildConfig:
    """Return ``config`` with the dense network that ``values`` choose."""
    widths = values.get(WIDTHS)
    if widths is None:
        return config
    return dataclasses.replace(config, train=dataclasses.replace(config.train, widths=str(widths)))


def with_choices(config: BuildConfig, values: Values, dense_macs: int) -> BuildConfig:
    """Return ``config`` with all that ``values`` choose.

    Args:
        config: what the trials have in common.
        values: of every knob.
        dense_macs: multiply-adds of the dense network, of which a share stays.
    """
    kept = float(values[KEPT])
    config = with_width(config, values)
    pruned = (
        dataclasses.replace(config.prune, prune=0.0, max_macs=0)
        if kept >= WHOLE
        else dataclasses.replace(config.prune, prune=None, max_macs=int(kept * dense_macs))
    )
    parts: dict[str, Any] = {"prune": pruned}
    for knob in KNOBS:
        part = parts.get(knob.part, getattr(config, knob.part))
        parts[knob.part] = dataclasses.replace(part, **{knob.name: values[knob.name]})
    return dataclasses.replace(config, **parts)
