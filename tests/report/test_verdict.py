from __future__ import annotations

import dataclasses
import re

import pytest

from exporter.report.markdown import markdown
from exporter.report.model import BuildReport, Gate, KernelGap, NotMeasured
from exporter.report.verdict import advice, columns, facts, outcome, remarks, size, times, verdict
from tests.sample_report import SAMPLE


def failed(
    name: str,
    *,
    dense: float = 95.0,
    small: float | None = 95.0,
    int8: float = 95.0,
    **changes: object,
) -> BuildReport:
    """The sample with the given top-1 and one gate that was not met."""
    models = SAMPLE.models
    drop = dense - int8
    points = name == "max-drop"
    gate = Gate(
        name=name,
        limit=1.0 if points else 1.2,
        unit="points" if points else "times",
        measured=drop if points else 1.07,
        passed=False,
    )
    report = dataclasses.replace(
        SAMPLE,
        passed=False,
        bundle=None,
        gates=(gate,),
        drop_points=drop,
        models=dataclasses.replace(
            models,
            dense=dataclasses.replace(models.dense, top1=dense),
            small=None if small is None else dataclasses.replace(SAMPLE.shipped_model, top1=small),
            int8=dataclasses.replace(SAMPLE.shipped_model, top1=int8),
        ),
    )
    return dataclasses.replace(report, **changes)  # type: ignore[arg-type]


def options_in(report: BuildReport) -> set[str]:
    return set(re.findall(r"--[a-z0-9-]+", " ".join(advice(report))))


def test_verdict_of_the_sample() -> None:
    assert verdict(SAMPLE) == (
        "int8 is 6.42x faster (95 % CI 6.39 to 6.44), 9.11x smaller, 0.28 points less accurate "
        "(3 of 360 predictions changed)."
    )


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"speedup": 0.8}, "0.80x the speed"),
        ({"speedup": 12.34}, "12.3x faster"),
        ({"size_ratio": 1.5}, "1.50x larger"),
        ({"drop_points": 0.0}, "equally accurate"),
        ({"drop_points": -0.5}, "0.50 points more accurate"),
    ],
)
def test_verdict_names_losses_and_gains(change: dict[str, float], part: str) -> None:
    assert part in verdict(dataclasses.replace(SAMPLE, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("unit", "limit", "measured", "text"),
    [
        ("points", 1.0, 1.5, "1.50 points lost, a loss of 1 is allowed"),
        ("points", 0.25, -0.3, "0.30 points gained, a loss of 0.25 is allowed"),
        ("times", 1.2, 0.9, "0.90x the speed, at least 1.2x is wanted"),
        ("times", 1.2, 3.0, "3.00x faster, at least 1.2x is wanted"),
        ("kB", 150.0, 141.002, "141.0 kB, at most 150 is wanted"),
        ("ms", 0.1, 0.1014, "0.101 ms, at most 0.1 is wanted"),
    ],
)
def test_outcome(unit: str, limit: float, measured: float, text: str) -> None:
    gate = Gate(name="any", limit=limit, unit=unit, measured=measured, passed=True)

    assert outcome(gate) == text


@pytest.mark.parametrize(
    ("unit", "limit", "measured", "text"),
    [
        ("points", 0.5, 0.42, "at most 0.42 points lost with 95 % confidence, a loss of 0.5"),
        ("points", 0.5, -0.1, "at least 0.10 points gained with 95 % confidence, a loss of 0.5"),
        ("times", 1.2, 3.0, "at least 3.00x faster with 95 % confidence, at least 1.2x"),
        ("times", 1.2, 1.0, "no faster beyond the noise with 95 % confidence, at least 1.2x"),
    ],
)
def test_outcome_of_a_bound(unit: str, limit: float, measured: float, text: str) -> None:
    gate = Gate(name="any", limit=limit, unit=unit, measured=measured, passed=True, confidence=0.95)

    assert outcome(gate).startswith(text)


def test_a_speedup_inside_the_noise_is_called_none() -> None:
    assert SAMPLE.evidence is not None
    times = dataclasses.replace(SAMPLE.evidence.latency, noise=1.05, beyond_noise=False)
    evidence = dataclasses.replace(SAMPLE.evidence, latency=times)
    report = dataclasses.replace(SAMPLE, speedup=1.03, evidence=evidence)

    assert "int8 is as fast as dense float: 1.030x is inside the noise of 1.050x" in verdict(report)
    assert "faster" not in verdict(report)


@pytest.mark.parametrize(("runs", "told"), [(99, "too few runs"), (100, "0.096 ms")])
def test_a_slow_time_takes_a_hundred_runs(runs: int, told: str) -> None:
    model = dataclasses.replace(SAMPLE.shipped_model, runs=runs)

    assert dict(facts(model))["time, slow (p90)"] == told


def test_a_loss_that_only_its_interval_makes_too_large_asks_for_images() -> None:
    gate = Gate(
        name="max-drop", limit=1.0, unit="points", measured=1.6, passed=False, confidence=0.95
    )
    report = dataclasses.replace(SAMPLE, passed=False, bundle=None, gates=(gate,))

    assert any("more test images" in tip for tip in advice(report))
    assert options_in(report) >= {"--max-drop"}


def test_outcome_of_what_was_not_measured() -> None:
    missing = NotMeasured(not_measured="no clock")
    gate = Gate(name="any", limit=1.0, unit="times", measured=missing, passed=False)

    assert outcome(gate) == "not measured: no clock"


def test_masks_on_weights_are_said_to_change_the_download_alone() -> None:
    assert SAMPLE.pruning is not None
    assert remarks(SAMPLE) == ()
    masked = dataclasses.replace(SAMPLE.pruning, unit="weights", removed_share=0.9)
    (told,) = remarks(dataclasses.replace(SAMPLE, pruning=masked))
    assert told == (
        "90.0 % of the weights are zero. That makes the download smaller, and no run faster: "
        "pruned float 512.0 kB, 474.1 kB by gzip, 473.0 kB by zstd; "
        "int8 141.0 kB, 118.3 kB, 116.9 kB."
    )


def test_a_float_file_that_ships_is_called_by_its_name() -> None:
    models = dataclasses.replace(SAMPLE.models, int8=None)
    small = dataclasses.replace(SAMPLE, shipped="small", models=models, kernel_gap=None)
    assert verdict(small).startswith("pruned float is 6.42x faster")
    assert [name for name, _ in columns(small)] == ["dense float", "pruned float"]
    assert remarks(small) == ()
    assert "# Report on the pruned float model for cpu-int8" in markdown(small)
    assert "Integer kernels against" not in markdown(small)


def test_nothing_is_compared_where_the_dense_model_ships() -> None:
    models = dataclasses.replace(SAMPLE.models, small=None, int8=None)
    dense = dataclasses.replace(SAMPLE, shipped="dense", models=models, kernel_gap=None)
    assert verdict(dense).startswith("The dense float model ships as it is")
    assert [name for name, _ in columns(dense)] == ["dense float"]


@pytest.mark.parametrize("name", ["max-drop", "min-speedup"])
def test_advice_on_a_float_file_speaks_of_no_integers(name: str) -> None:
    (gate,) = (gate for gate in SAMPLE.gates if gate.name == name)
    report = dataclasses.replace(
        SAMPLE,
        passed=False,
        shipped="small",
        models=dataclasses.replace(SAMPLE.models, int8=None),
        kernel_gap=None,
        gates=(dataclasses.replace(gate, passed=False),),
    )
    found = " ".join(advice(report))
    assert found
    for word in ("inspect", "--method", "saturate", "dot product"):
        assert word not in found


@pytest.mark.parametrize(("p50_ms", "told"), [(0.0939, True), (0.0940, False), (0.05, True)])
def test_a_pruned_float_model_that_is_as_fast_is_named(p50_ms: float, told: bool) -> None:
    small = dataclasses.replace(SAMPLE.shipped_model, p50_ms=p50_ms)
    models = dataclasses.replace(SAMPLE.models, small=small)
    found = remarks(dataclasses.replace(SAMPLE, models=models))
    assert any("as fast as int8" in remark for remark in found) is told


@pytest.mark.parametrize(("correct", "told"), [(37, True), (48, True), (49, False), (353, False)])
def test_a_network_that_learned_nothing_is_named(correct: int, told: bool) -> None:
    """The most frequent class has 37 of 360 images; by chance, 95 % of the time at most 48.3."""
    dense = dataclasses.replace(SAMPLE.models.dense, correct=correct, top1=100 * correct / 360)
    models = dataclasses.replace(SAMPLE.models, dense=dense)
    found = remarks(dataclasses.replace(SAMPLE, models=models))
    assert any("learned nothing" in remark for remark in found) is told


def test_no_advice_where_nothing_failed() -> None:
    assert advice(SAMPLE) == ()


@pytest.mark.parametrize(
    ("report", "options"),
    [
        pytest.param(
            failed("max-drop", small=92.0, int8=92.0),
            {"--prune", "--finetune-epochs", "--max-drop"},
            id="lost by pruning",
        ),
        pytest.param(
            failed("max-drop", small=95.0, int8=92.0),
            {"--recover", "--method", "--calibration-images", "--max-drop"},
            id="lost by quantizing",
        ),
        pytest.param(
            failed("max-drop", small=None, int8=92.0),
            {"--recover", "--method", "--calibration-images", "--max-drop"},
            id="nothing was pruned",
        ),
        pytest.param(
            failed(
                "max-drop", int8=92.0, kernel_gap=KernelGap(drop_points=2.9, changed_share=0.04)
            ),
            {"--target", "--max-drop"},
            id="lost by this CPU's kernels",
        ),
        pytest.param(
            failed("min-speedup", speedup_ci=(1.06, 1.08)),
            {"--prune", "--min-speedup"},
            id="too slow",
        ),
        pytest.param(
            failed("min-speedup", speedup_ci=(0.9, 1.3)),
            {"--prune", "--min-speedup", "--timing-seconds"},
            id="too slow, or not: the interval holds the limit",
        ),
    ],
)
def test_advice_follows_the_cause(report: BuildReport, options: set[str]) -> None:
    assert options_in(report) == options


def test_a_time_that_was_missed_brings_advice() -> None:
    gate = Gate(name="max-ms", limit=0.1, unit="ms", measured=0.11, passed=False)
    report = dataclasses.replace(SAMPLE, passed=False, bundle=None, gates=(gate,))
    assert options_in(report) == {"--max-ms"}


def test_advice_offers_limits_that_would_pass() -> None:
    assert advice(failed("max-drop", int8=92.77))[-1].endswith("--max-drop 2.3.")
    assert advice(failed("min-speedup"))[-1].endswith("--min-speedup 1.")


@pytest.mark.parametrize(
    ("found", "mentioned"),
    [
        (("avx2", "avx512f"), True),
        (("avx2", "avx_vnni"), False),
        (("asimd", "asimddp"), False),
        (NotMeasured(not_measured="unknown"), False),
    ],
)
def test_a_cpu_without_int8_dot_products_is_named(
    found: tuple[str, ...] | NotMeasured, mentioned: bool
) -> None:
    machine = dataclasses.replace(SAMPLE.machine, instruction_sets=found)

    tips = " ".join(advice(failed("min-speedup", machine=machine)))

    assert ("no int8 dot product" in tips) is mentioned


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 B"), (1000, "1.0 kB"), (999_900, "999.9 kB"), (2.5e6, "2.50 MB")]
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("value", "text"), [(4.128, "4.13"), (9.99, "9.99"), (41.26, "41.3")])
def test_times(value: float, text: str) -> None:
    assert times(value) == text
