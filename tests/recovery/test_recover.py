"""The ladder on real files: small networks that are fragile in one way each."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from exporter.artifacts import Cache
from exporter.config import CalibrationConfig
from exporter.data.splits import Splits
from exporter.errors import GraphError
from exporter.graph.model import OnnxModel
from exporter.quantization.aware.learn import rounding_lesson
from exporter.quantization.calibrate import calibrate
from exporter.quantization.choose import choose_ranges
from exporter.recovery import rungs as all_rungs
from exporter.recovery.recover import Recovered, recover
from exporter.recovery.rungs import Rungs
from exporter.report.not_measured import NotMeasured
from exporter.report.recovery import RecoveryAttempt, RecoveryReport, RecoveryResult
from exporter.targets import find_target
from exporter.training.augmentation import Augmentation
from exporter.training.loop import Lesson

CPU = find_target("cpu-int8")
MINMAX = CalibrationConfig(method="minmax")
"""Others may clip the loud channel, by which the fragile network is well served."""
LESSON = rounding_lesson(
    Lesson(
        epochs=1,
        batch_size=32,
        learning_rate=0.0,
        label_smoothing=0.0,
        augmentation=Augmentation(flip=False, translate=0, cutout=0),
        seed=0,
    ),
    epochs=1,
)
NONE = 0.0
"""Points that may be lost."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


def rungs_for(
    cache: Cache,
    model: OnnxModel,
    data: Splits,
    calibration: CalibrationConfig = MINMAX,
    float_layers: tuple[str, ...] = (),
) -> Rungs:
    return Rungs(
        cache=cache,
        target=CPU,
        calibration=calibration,
        model=model,
        data=data,
        lesson=LESSON,
        float_layers=float_layers,
    )


def climbed(found: Rungs, *names: str, budget: float = NONE) -> Recovered:
    return recover(found, budget, {name: found.table[name] for name in names})


def outcome(attempt: RecoveryAttempt) -> RecoveryResult:
    assert isinstance(attempt.result, RecoveryResult), attempt.result
    return attempt.result


def kept(report: RecoveryReport) -> list[tuple[str, str]]:
    return [(attempt.rung, attempt.what) for attempt in report.attempts if attempt.kept]


def test_what_needs_no_recovery_is_the_file_that_there_was_without(
    cache: Cache, sound: OnnxModel, splits: Splits
) -> None:
    every = CalibrationConfig()
    ranges = cache.run(calibrate, every, sound, splits.calibration)
    plain = choose_ranges(cache, CPU, sound, ranges, splits.validation)

    found = recover(rungs_for(cache, sound, splits, every), NONE)

    assert found.solution.int8.file == plain.file
    report = found.report
    assert report.within_budget
    assert [(a.rung, a.what) for a in report.attempts] == [
        ("ranges", "minmax"),
        ("ranges", "the best of 4 methods"),
    ]
    assert report.float_top1 == 100
    assert report.images == splits.validation.count == 30
    assert report.image_points == pytest.approx(100 / 30)
    assert (report.sensitivity, report.sensitivity_images) == ((), 0)


def test_equalisation_recovers_what_a_loud_channel_took(
    cache: Cache, fragile: OnnxModel, splits: Splits
) -> None:
    found = recover(rungs_for(cache, fragile, splits), NONE)

    first, *_, last = found.report.attempts
    assert outcome(first).drop_points > 30
    assert (last.rung, last.what) == ("corrections", "equalize")
    assert outcome(last).drop_points == 0
    assert last.gain_points == pytest.approx(outcome(first).drop_points)
    assert outcome(last).logit_error < 0.1 * outcome(first).logit_error
    assert kept(found.report)[-1] == ("corrections", "equalize")
    assert found.report.within_budget
    assert found.report.stopped.startswith("stopped at corrections")
    assert found.solution.corrections == ("equalize",)
    assert found.solution.model.file != fragile.file


def test_the_second_time_everything_is_there(
    cache: Cache, fragile: OnnxModel, splits: Splits
) -> None:
    first = recover(rungs_for(cache, fragile, splits), NONE)
    again = recover(rungs_for(cache, fragile, splits), NONE)

    assert again.solution == first.solution
    assert all(attempt.cached for attempt in again.report.attempts)


def test_layers_around_the_loud_channel_fall_back_to_float(
    cache: Cache, fragile: OnnxModel, splits: Splits
) -> None:
    found = climbed(rungs_for(cache, fragile, splits), "ranges", "fallback")

    report, int8 = found.report, found.solution.int8
    loudest = report.sensitivity[0].layer
    assert report.sensitivity[0].kl == max(layer.kl for layer in report.sensitivity) > 0.1
    assert report.sensitivity[0].weights_kl < 0.1 * report.sensitivity[0].kl
    assert report.within_budget
    assert report.float_layers[1] == loudest
    assert len(report.float_layers) == 2
    assert int8.float_layers == report.float_layers
    assert int8.coverage.floating["Conv"] == 2
    assert sum(int8.coverage.integer.values()) >= 2
    assert 0 < report.float_macs_share < 1
    assert report.time_ratio is not None
    assert report.time_ratio > 0
    assert report.sensitivity_images == splits.calibration.count
    assert report.stopped.startswith("stopped at fallback")
    assert kept(report)[-1][0] == "fallback"


def test_fine_tuning_comes_last_and_is_judged_like_the_rest(
    cache: Cache, fragile: OnnxModel, splits: Splits
) -> None:
    found = climbed(rungs_for(cache, fragile, splits), "ranges", "fine-tuning")

    tuned = [attempt for attempt in found.report.attempts if attempt.rung == "fine-tuning"]
    assert [attempt.what for attempt in tuned][:2] == ["1 epoch", "1 epoch, bias"]
    best = max(outcome(attempt).correct for attempt in found.report.attempts)
    last = [attempt for attempt in found.report.attempts if attempt.kept][-1]
    assert outcome(last).correct == best
    assert found.solution.aware_epochs == (1 if last.rung == "fine-tuning" else 0)


def test_a_network_that_cannot_be_followed_is_not_fine_tuned(
    cache: Cache, fragile: OnnxModel, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learn_rounding(out: Path, *inputs: object) -> OnnxModel:
        raise GraphError("Erf is an operator that cannot be followed.")

    learn_rounding.__module__ = all_rungs.__name__
    monkeypatch.setattr(all_rungs, "learn_rounding", learn_rounding)
    other = dataclasses.replace(LESSON, seed=9)  # nothing of it is in the cache
    found = rungs_for(cache, fragile, splits)
    found.lesson = other

    report = climbed(found, "ranges", "fine-tuning").report

    assert report.attempts[-1].result == NotMeasured(
        not_measured="Erf is an operator that cannot be followed."
    )
    assert not report.within_budget
    assert report.stopped.startswith("went through all rungs")
