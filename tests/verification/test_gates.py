from __future__ import annotations

import math

import pytest

from exporter.config import PruneConfig, VerifyConfig
from exporter.report.model import Gate, NotMeasured
from exporter.targets import TARGETS
from exporter.verification.gates import check_budget, check_gates
from tests.sample_report import SAMPLE

CONFIG = VerifyConfig(max_drop=0.3, min_speedup=1.2)


def gates(drop: float | NotMeasured = 0.0, speedup: float | NotMeasured = 2.0) -> dict[str, Gate]:
    return {gate.name: gate for gate in check_gates(CONFIG, TARGETS["cpu-int8"], drop, speedup)}


@pytest.mark.parametrize(
    ("drop", "passed"),
    [
        (-5.0, True),
        (0.0, True),
        (math.nextafter(0.3, 0), True),
        (100 * 3 / 1000, True),
        (0.3, True),
        (math.nextafter(0.3, 1), False),
        (100 * 4 / 1000, False),
        (100.0, False),
    ],
)
def test_max_drop(drop: float, passed: bool) -> None:
    assert gates(drop=drop)["max-drop"] == Gate(
        name="max-drop", limit=0.3, unit="points", measured=drop, passed=passed
    )


@pytest.mark.parametrize(
    ("speedup", "passed"),
    [
        (0.5, False),
        (math.nextafter(1.2, 0), False),
        (1.2, True),
        (math.nextafter(1.2, 2), True),
        (40.0, True),
    ],
)
def test_min_speedup(speedup: float, passed: bool) -> None:
    assert gates(speedup=speedup)["min-speedup"] == Gate(
        name="min-speedup", limit=1.2, unit="times", measured=speedup, passed=passed
    )


@pytest.mark.parametrize(
    ("target", "speedup", "passed"),
    [
        ("cpu-int8", 1.2, True),
        ("cpu-int8", 1.19, False),
        ("cpu-fp32", 1.0, True),
        ("cpu-fp32", 0.94, False),
    ],
)
def test_the_target_says_what_speedup_is_wanted_where_nobody_does(
    target: str, speedup: float, passed: bool
) -> None:
    _, gate = check_gates(VerifyConfig(), TARGETS[target], 0.0, speedup)
    assert (gate.passed, gate.limit) == (passed, TARGETS[target].min_speedup)
    _, explicit = check_gates(CONFIG, TARGETS[target], 0.0, speedup)
    assert explicit.limit == 1.2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_passes(value: float) -> None:
    result = gates(drop=value, speedup=value)

    assert [gate.passed for gate in result.values()] == [False, False]
    assert result["max-drop"].measured == NotMeasured(not_measured=f"the measurement gave {value}")


def test_what_was_not_measured_never_passes() -> None:
    missing = NotMeasured(not_measured="no clock")

    result = gates(drop=missing, speedup=missing)

    assert [gate.passed for gate in result.values()] == [False, False]
    assert result["min-speedup"].measured == missing


@pytest.mark.parametrize(("limit", "passed"), [(141.001, False), (141.002, True), (150.0, True)])
def test_max_kb_counts_the_bytes_of_the_file(limit: float, passed: bool) -> None:
    (gate,) = check_budget(PruneConfig(max_kb=limit), SAMPLE.shipped_model)

    assert gate == Gate(name="max-kb", limit=limit, unit="kB", measured=141.002, passed=passed)


@pytest.mark.parametrize(("limit", "passed"), [(0.092, False), (0.0921, True), (1.0, True)])
def test_max_ms_counts_the_median_time(limit: float, passed: bool) -> None:
    (gate,) = check_budget(PruneConfig(max_ms=limit), SAMPLE.shipped_model)

    assert gate == Gate(name="max-ms", limit=limit, unit="ms", measured=0.0921, passed=passed)


@pytest.mark.parametrize(
    "config", [PruneConfig(), PruneConfig(max_macs=1), PruneConfig(max_parameters=1)]
)
def test_what_is_counted_needs_no_gate(config: PruneConfig) -> None:
    assert check_budget(config, SAMPLE.shipped_model) == ()


@pytest.mark.parametrize(
    ("wanted", "speedup", "measured", "passed"),
    [
        pytest.param(1.02, 1.04, 1.0, False, id="none that was shown"),
        pytest.param(1.02, 0.9, 0.9, False, id="slower stays slower"),
        pytest.param(1.0, 1.04, 1.04, True, id="not slower is all that is wanted"),
        pytest.param(0.95, 0.9, 0.9, False, id="slower than allowed"),
    ],
)
def test_a_speedup_inside_the_noise_is_none(
    wanted: float, speedup: float, measured: float, passed: bool
) -> None:
    config = VerifyConfig(min_speedup=wanted)

    _, gate = check_gates(config, TARGETS["cpu-int8"], 0.0, speedup, beyond_noise=False)

    assert (gate.measured, gate.passed) == (measured, passed)


@pytest.mark.parametrize(("confidence", "told"), [(0.0, None), (0.95, 0.95)])
def test_a_gate_says_whether_a_bound_was_gated(confidence: float, told: float | None) -> None:
    config = VerifyConfig(confidence=confidence)

    found = check_gates(config, TARGETS["cpu-int8"], 0.0, 2.0)

    assert [gate.confidence for gate in found] == [told, told]
