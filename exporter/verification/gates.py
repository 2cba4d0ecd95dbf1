"""The conditions an int8 model has to meet before it may be called shippable."""

from __future__ import annotations

import math

from exporter.config import PruneConfig, VerifyConfig
from exporter.report.model import Gate, ModelReport, NotMeasured


def check_gates(
    config: VerifyConfig, drop_points: float | NotMeasured, speedup: float | NotMeasured
) -> tuple[Gate, ...]:
    """Return every gate with its outcome.

    A measurement that equals its limit passes; one that is missing or not finite does not.
    """
    drop, times = _finite(drop_points), _finite(speedup)
    return (
        Gate(
            name="max-drop",
            limit=config.max_drop,
            unit="points",
            measured=drop,
            passed=not isinstance(drop, NotMeasured) and drop <= config.max_drop,
        ),
        Gate(
            name="min-speedup",
            limit=config.min_speedup,
            unit="times",
            measured=times,
            passed=not isinstance(times, NotMeasured) and times >= config.min_speedup,
        ),
    )


def check_budget(config: PruneConfig, int8: ModelReport) -> tuple[Gate, ...]:
    """Return the gate of a budget in bytes or milliseconds, none where there is no such budget.

    The network was chosen by an estimate of its file; here the file itself counts. Parameters and
    multiply-accumulates need no gate: they are counted, not estimated.
    """
    gates = (
        ("max-kb", config.max_kb, "kB", int8.bytes / 1000),
        ("max-ms", config.max_ms, "ms", int8.p50_ms),
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
