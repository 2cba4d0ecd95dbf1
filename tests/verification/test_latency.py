from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from exporter.config import VerifyConfig
from exporter.errors import ConfigError
from exporter.report.model import NotMeasured
from exporter.verification import latency
from exporter.verification.latency import (
    AGAIN,
    MIN_ROUNDS,
    WARMUP_MIN_RUNS,
    WARMUP_RUNS,
    measure_latency,
    runs_per_block,
    summarize,
    time_blocks,
    time_models,
    too_few,
)
from tests.verification.linear_model import RIGHT, linear_model


class Bench:
    """A clock that only the subjects move, and a record of who ran."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.calls: list[str] = []

    def clock(self) -> int:
        return self.now_ns

    def run(self, name: str, nanoseconds: int) -> None:
        self.calls.append(name)
        self.now_ns += nanoseconds


def timed(
    bench: Bench, seconds: float, dense_ns: int = 4_000_000, int8_ns: int = 1_000_000
) -> dict[str, np.ndarray]:
    subjects = {
        "dense": lambda: bench.run("dense", dense_ns),
        "int8": lambda: bench.run("int8", int8_ns),
    }
    return dict(time_blocks(subjects, seconds, np.random.default_rng(0), bench.clock))


def test_every_model_has_the_same_number_of_blocks_and_its_own_times() -> None:
    blocks = timed(Bench(), seconds=5.0)

    assert blocks["dense"].shape == blocks["int8"].shape
    assert set(blocks["dense"].flat) == {4_000_000}
    assert set(blocks["int8"].flat) == {1_000_000}


def test_fast_models_get_all_warm_up_runs() -> None:
    bench = Bench()
    blocks = timed(bench, seconds=5.0)
    rounds, runs = blocks["dense"].shape

    warm_up = bench.calls.count("dense") - rounds * (runs + 1)

    assert warm_up >= WARMUP_RUNS


def test_slow_models_are_warmed_up_less_and_still_get_their_rounds() -> None:
    bench = Bench()
    second = 1_000_000_000
    blocks = timed(bench, seconds=5.0, dense_ns=2 * second, int8_ns=second)
    rounds, runs = blocks["dense"].shape

    warm_up = bench.calls.count("dense") - rounds * (runs + 1)

    assert (rounds, runs) == (MIN_ROUNDS, 1)
    assert warm_up == 2 * WARMUP_MIN_RUNS


def test_time_is_kept() -> None:
    bench = Bench()
    timed(bench, seconds=5.0)

    assert 5.0 <= bench.now_ns / 1e9 < 5.0 * 1.25  # measuring, and warming up on top


def test_models_take_turns_in_an_order_that_changes() -> None:
    bench = Bench()
    rounds, runs = timed(bench, seconds=5.0)["dense"].shape
    block = runs + 1
    measured = bench.calls[-2 * rounds * block :]

    blocks = [measured[start : start + block] for start in range(0, len(measured), block)]

    assert all(len(set(names)) == 1 for names in blocks)
    first = [blocks[index][0] for index in range(0, len(blocks), 2)]
    second = [blocks[index][0] for index in range(1, len(blocks), 2)]
    assert all(a != b for a, b in zip(first, second, strict=True))
    assert 0.3 < first.count("dense") / rounds < 0.7


def test_the_first_run_of_a_block_is_not_timed() -> None:
    bench = Bench()

    def cold_after_another(name: str) -> None:
        cold = bench.calls[-1:] != [name]
        bench.run(name, 9_000_000 if cold else 1_000_000)

    blocks = time_blocks(
        {"a": lambda: cold_after_another("a"), "b": lambda: cold_after_another("b")},
        1.0,
        np.random.default_rng(0),
        bench.clock,
    )

    assert set(blocks["a"].flat) | set(blocks["b"].flat) == {1_000_000}


def test_the_collector_is_off_while_timing_and_on_again_after_an_error() -> None:
    states: list[bool] = []

    def fail() -> None:
        states.append(gc.isenabled())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        time_blocks({"a": fail}, 1.0, np.random.default_rng(0))

    assert states == [False]
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("seconds", "round_seconds", "runs"),
    [
        pytest.param(5.0, 0.001, 20, id="250 rounds of 20"),
        pytest.param(5.0, 0.01, 5, id="slower: shorter blocks"),
        pytest.param(5.0, 2.0, 1, id="very slow: single runs"),
        pytest.param(3600.0, 0.001, 1800, id="long: 2000 rounds"),
        pytest.param(0.1, 0.0, 50_000, id="a clock too coarse to see a run"),
    ],
)
def test_runs_per_block(seconds: float, round_seconds: float, runs: int) -> None:
    assert runs_per_block(seconds, round_seconds) == runs


def test_summary_is_over_single_runs_in_milliseconds() -> None:
    times = np.arange(1, 102, dtype=np.int64)[:, np.newaxis] * 1_000_000  # 1 to 101 ms

    result = summarize(times)

    assert (result.p50_ms, result.p90_ms, result.runs) == (51.0, 91.0, 101)
    low, high = result.p50_ci_ms
    assert 1.0 < low < 51.0 < high < 101.0


@pytest.mark.parametrize(
    ("percentile", "runs", "enough"),
    [(90, 99, False), (90, 100, True), (99, 999, False), (99, 1000, True)],
)
def test_a_percentile_takes_ten_runs_beyond_it(percentile: int, runs: int, enough: bool) -> None:
    assert (too_few(percentile, runs) is None) is enough


def test_few_runs_have_no_99th_percentile() -> None:
    few = np.full((10, 99), 1_000_000)
    many = np.full((10, 100), 1_000_000)

    assert summarize(few).p99_ms == NotMeasured(
        not_measured="990 runs; the 99th percentile takes 1000"
    )
    assert summarize(many).p99_ms == 1.0


def test_real_sessions_are_timed_on_one_core(tmp_path: Path) -> None:
    models = {
        "dense": linear_model(tmp_path / "dense.onnx", RIGHT),
        "int8": linear_model(tmp_path / "int8.onnx", RIGHT),
    }
    image = np.zeros((20, 20, 3), np.uint8)

    result = measure_latency(
        VerifyConfig(timing_seconds=0.1), models, image, baseline="dense", candidate="int8"
    )

    assert set(result.timings) == {"dense", "int8"}
    assert all(0 < timing.p50_ms <= timing.p90_ms for timing in result.timings.values())
    assert all(timing.runs >= MIN_ROUNDS for timing in result.timings.values())
    assert 0 < result.speedup.low <= result.speedup.value <= result.speedup.high
    if isinstance(result.pinned_cores, tuple):
        assert len(result.pinned_cores) == 1


def test_speedup_is_baseline_over_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = {
        "dense": np.full((10, 3), 8_000_000),
        "small": np.full((10, 3), 4_000_000),
        "int8": np.full((10, 3), 2_000_000),
        AGAIN: np.full((10, 3), 1_600_000),
    }
    monkeypatch.setattr(latency, "time_blocks", lambda subjects, seconds, rng: blocks)
    model = linear_model(tmp_path / "model.onnx", RIGHT)

    result = measure_latency(
        VerifyConfig(),
        dict.fromkeys(["dense", "small", "int8"], model),
        np.zeros((20, 20, 3), np.uint8),
        baseline="dense",
        candidate="int8",
    )

    assert result.speedup.value == pytest.approx(4.0)
    assert result.timings["small"].p50_ms == 4.0
    assert result.same_file.value == pytest.approx(0.8)
    assert set(result.timings) == {"dense", "small", "int8"}


@pytest.mark.parametrize("confidence", [0.0, 0.5, 0.95, 0.999])
def test_the_bound_of_the_speedup_follows_the_confidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confidence: float
) -> None:
    slow = np.linspace(3_000_000, 5_000_000, 50).astype(np.int64)[:, np.newaxis]
    fast = np.full((50, 1), 1_000_000)
    blocks = {"dense": slow, "int8": fast, AGAIN: fast}
    monkeypatch.setattr(latency, "time_blocks", lambda subjects, seconds, rng: blocks)
    model = linear_model(tmp_path / "model.onnx", RIGHT)

    result = measure_latency(
        VerifyConfig(confidence=confidence),
        {"dense": model, "int8": model},
        np.zeros((20, 20, 3), np.uint8),
        baseline="dense",
        candidate="int8",
    )

    assert result.speedup.low < result.speedup.value == pytest.approx(4.0, rel=0.01)
    if confidence == 0.5:
        assert result.speedup.low < result.speedup_bound < result.speedup.value
    if confidence == 0.999:
        assert result.speedup_bound < result.speedup.low
    if confidence in (0.0, 0.95):
        assert result.speedup_bound == pytest.approx(result.speedup.low, rel=0.02)


def test_several_images_in_one_run(tmp_path: Path) -> None:
    model = linear_model(tmp_path / "model.onnx", RIGHT)
    rng = np.random.default_rng(0)

    blocks, _ = time_models(
        {"a": model}, np.zeros((20, 20, 3), np.uint8), rng, threads=1, seconds=0.1, batch=8
    )

    assert blocks["a"].shape[0] >= MIN_ROUNDS
    assert blocks["a"].min() > 0


def test_too_many_threads_are_refused(tmp_path: Path) -> None:
    model = linear_model(tmp_path / "model.onnx", RIGHT)

    with pytest.raises(ConfigError, match="--threads is 1024"):
        measure_latency(
            VerifyConfig(threads=1024),
            {"a": model},
            np.zeros((20, 20, 3), np.uint8),
            baseline="a",
            candidate="a",
        )
