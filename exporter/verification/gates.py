"""The conditions a model has to meet before it may be called shippable."""

from __future__ import annotations

import math

from exporter.config import PruneConfig, VerifyConfig
from exporter.report.model import Gate, ModelReport, NotMeasured
from exporter.targets import Target


def check_gates(
    config: VerifyConfig,
    target: Target,
    drop_points: float | NotMeasured,
    speedup: float | NotMeasured,
    *,
    beyond_noise: bool = True,
) -> tuple[Gate, ...]:
    """Return every gate with its outcome; the target says which speed-up is wanted by default.

    A measurement that equals its limit passes; one that is missing or not finite does not. Where
    more than the same speed is wanted, a speed-up inside the noise counts as none: 1.

    Args:
        config: the limits, and at which confidence the measurements are bounds.
        target: where the model will run.
        drop_points: the drop, or the upper end of its interval.
        speedup: the speed-up, or the lower end of its interval.
        beyond_noise: whether it is larger than the noise of its measurement.
    """
    drop, times = _finite(drop_points), _finite(speedup)
    wanted = target.min_speedup if config.min_speedup is None else config.min_speedup
    if not beyond_noise and wanted > 1 and not isinstance(times, NotMeasured):
        times = min(times, 1.0)
    confidence = config.confidence or None
    return (
        Gate(
            name="max-drop",
            limit=config.max_drop,
            unit="points",
            measured=drop,
            passed=not isinstance(drop, NotMeasured) and drop <= config.max_drop,
            confidence=confidence,
        ),
        Gate(
            name="min-speedup",
            limit=wanted,
            unit="times",
            measured=times,
            passed=not isinstance(times, NotMeasured) and times >= wanted,
            confidence=confidence,
        ),
    )


def check_budget(config: PruneConfig, shipped: ModelReport) -> tuple[Gate, ...]:
    """Return the gate of a budget in bytes or milliseconds, none where there is no such budget.

    The network was chosen by an estimate of its file; here the file itself counts. Parameters and
    multiply-accumulates need no gate: they are counted, not estimated.
    """
    gates = (
        ("max-kb", config.max_kb, "kB", shipped.bytes / 1000),
        ("max-ms", config.max_ms, "ms", shipped.p50_ms),
    )
    return tuple(
        Gate(name=name, limit=limit, unit=unit, measured=measured, passed=measured <= limit)
        for name, limit, unit, measured in gates
        if limit
    )


def _finite(value: float | NotMeasured) -> float | NotMeasured:
    if isinstance(value, NotMeasured) or math.isfinite(value):
        return value
    return NotMeasured(not_measured=f"the measurement gave {value}")
