"""The search, with clocks that say what they are told, and once on a real file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.artifacts import Artifact, Cache
from exporter.config import CalibrationConfig, QuantizeConfig
from exporter.data.splits import Splits
from exporter.errors import GraphError
from exporter.graph.model import OnnxModel
from exporter.mixed import race as racing_module
from exporter.mixed import slow_layers as searching
from exporter.mixed.choose import float_layers, with_stem
from exporter.mixed.race import Race
from exporter.mixed.slow_layers import (
    IN_FLOAT,
    MOST,
    PADDED,
    LayerTimes,
    Search,
    slow_layers,
)
from exporter.quantization.calibrate import calibrate
from exporter.quantization.quantize import quantize
from exporter.report.not_measured import NotMeasured
from exporter.targets import find_target
from exporter.verification.paired import Ratio
from tests.recovery.conftest import sound

__all__ = ["sound"]  # a fixture

CPU = find_target("cpu-int8")
NOISE = 1.01
IMAGES = 50
STEM, DEPTHWISE, HEAD = "stem", "depthwise", "head"
LAYERS = (
    LayerTimes(name=STEM, int8_ms=0.03, float_ms=0.01),
    LayerTimes(name=DEPTHWISE, int8_ms=0.06, float_ms=0.02),
    LayerTimes(name=HEAD, int8_ms=0.01, float_ms=0.02),
)


def named(floats: tuple[str, ...], padded: bool) -> str:
    return "+".join((*sorted(floats), *(("padded",) if padded else ())))


def search(times: Mapping[str, float], correct: Mapping[str, int] | None = None) -> Search:
    """Return a search among files that take ``times``, by what is changed in them."""

    def file(floats: tuple[str, ...], padded: bool) -> Artifact:
        name = named(floats, padded)
        if name not in times:
            raise GraphError(f"There is no kernel for {name}.")
        return Artifact(path=Path(name), sha256=name)

    def race(champion: Artifact, challenger: Artifact) -> Race:
        value = times[challenger.sha256] / times[champion.sha256]
        return Race(
            ratio=Ratio(value=value, low=value - 0.002, high=value + 0.002),
            same_file=Ratio(value=1.0, low=1 / NOISE, high=NOISE),
        )

    return Search(
        file=file,
        race=race,
        correct=lambda file: (correct or {}).get(file.sha256, 40),
        profile=lambda file: LAYERS,
    )


def test_what_makes_the_file_faster_is_kept_and_nothing_else() -> None:
    found = search({"": 1.0, "padded": 1.1, "depthwise": 1.2, "stem": 0.9})
    found.run(STEM)
    report = found.report(IMAGES, [STEM, DEPTHWISE, HEAD])

    tried = [(trial.layer, trial.change, trial.kept) for trial in report.trials]
    assert tried == [
        (STEM, PADDED, False),
        (DEPTHWISE, IN_FLOAT, False),
        (STEM, IN_FLOAT, True),
    ]
    assert report.layers == (STEM,)
    assert report.padded_stem is None
    assert report.time_ratio == pytest.approx(0.9)
    assert [trial.time_ratio for trial in report.trials] == pytest.approx([1.1, 1.2, 0.9])
    assert report.trials[0].correct == NotMeasured(not_measured="it is not faster")
    assert report.trials[2].correct == 40


def test_layers_are_tried_beside_what_was_kept_and_told_in_the_order_of_the_graph() -> None:
    found = search({"": 1.0, "padded": 1.0, "depthwise": 0.9, "depthwise+stem": 0.81})
    found.run(STEM)
    report = found.report(IMAGES, [STEM, DEPTHWISE, HEAD])
    assert report.layers == (STEM, DEPTHWISE)
    assert report.time_ratio == pytest.approx(0.81)
    assert report.trials[-1].time_ratio == pytest.approx(0.9)


def test_a_padded_stem_must_be_beaten_by_the_float_one() -> None:
    times = {"": 1.0, "padded": 0.8, "depthwise+padded": 0.9, "stem": 0.85}
    found = search(times)
    found.run(STEM)
    assert (found.padded, found.floats) == (STEM, ())

    found = search(times | {"stem": 0.7})
    found.run(STEM)
    assert (found.padded, found.floats) == (None, (STEM,))
    assert found.report(IMAGES, [STEM]).padded_stem is None


def test_a_gain_within_the_noise_leaves_the_layer_an_integer_one() -> None:
    found = search({"": 1.0, "padded": 0.995, "depthwise": 0.995, "stem": 0.989})
    found.run(STEM)
    report = found.report(IMAGES, [STEM, DEPTHWISE, HEAD])
    assert [trial.kept for trial in report.trials] == [False, False, False]
    assert (report.layers, report.time_ratio, report.time_ratio_ci) == ((), None, None)


@pytest.mark.parametrize(("correct", "kept"), [(39, False), (40, True), (41, True)])
def test_no_validation_image_may_be_lost_for_speed(correct: int, kept: bool) -> None:
    found = search({"": 1.0, "depthwise": 1.1, "stem": 0.5}, {"stem": correct})
    found.run(None)
    assert [trial.correct for trial in found.trials][-1] == correct
    assert found.trials[-1].kept is kept
    assert found.floats == ((STEM,) if kept else ())


def test_what_cannot_be_done_is_on_record_and_the_rest_goes_on() -> None:
    found = search({"": 1.0, "stem": 0.5})
    found.run(STEM)
    padded, depthwise, stem = found.trials
    assert padded.time_ratio == NotMeasured(not_measured="There is no kernel for padded.")
    assert (depthwise.kept, depthwise.time_ratio_ci, depthwise.noise) == (False, None, None)
    assert stem.kept


def test_the_slowest_by_far_come_first_and_not_all_of_them() -> None:
    assert [layer.name for layer in slow_layers(LAYERS)] == [DEPTHWISE, STEM]
    many = [
        LayerTimes(name=str(index), int8_ms=1 + index / 100, float_ms=0.5) for index in range(20)
    ]
    assert [layer.name for layer in slow_layers(many)] == [str(19 - i) for i in range(MOST)]
    step = LayerTimes(name="a", int8_ms=0.0108, float_ms=0.01)
    assert slow_layers([step]) == []
    share = LayerTimes(name="a", int8_ms=1.004, float_ms=1.0)
    assert slow_layers([share]) == []


@pytest.mark.parametrize(
    ("low", "high", "won", "undecided"),
    [
        (0.97, 0.989, True, False),
        (0.97, 0.991, False, True),
        (1.02, 1.03, False, False),
    ],
)
def test_a_race_is_won_beyond_the_noise(
    low: float, high: float, won: bool, undecided: bool
) -> None:
    race = Race(
        ratio=Ratio(value=(low + high) / 2, low=low, high=high),
        same_file=Ratio(value=1.0, low=0.995, high=NOISE),
    )
    assert (race.won, race.undecided) == (won, undecided)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(racing_module, "SECONDS", (0.02,))
    monkeypatch.setattr(searching, "PROFILE_SECONDS", 0.02)


@pytest.mark.usefixtures("quick")
def test_a_real_search_is_made_once_and_its_file_is_what_was_decided(
    tmp_path: Path,
    sound: OnnxModel,
    splits: Splits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, config = Cache(tmp_path), QuantizeConfig(float_layers="slow")
    minmax = CalibrationConfig(method="minmax")
    ranges = cache.run(calibrate, minmax, sound, splits.calibration)
    own = ranges.by_method["minmax"]
    monkeypatch.setattr("exporter.mixed.choose.check_float_layers", lambda config, target: None)

    found = float_layers(config, cache, CPU, sound, ranges, "minmax", splits.validation)

    assert found is not None
    assert found.asked == "slow"
    assert found.images == splits.validation.count
    assert found.trials[0].layer == "first"
    assert found.trials[0].change == PADDED
    assert {t.layer for t in found.trials if t.kept} == {
        *found.layers,
        *([found.padded_stem] if found.padded_stem else []),
    }
    again = float_layers(config, cache, CPU, sound, ranges, "minmax", splits.validation)
    assert again == found
    assert cache.runs[-1].cached
    int8 = cache.run(quantize, CPU, sound, own, "minmax", found.layers)
    assert int8.float_layers == found.layers
    made = with_stem(cache, CPU, int8, found)
    assert (made.file != int8.file) == (found.padded_stem is not None)
    folder = next(tmp_path.glob("find-slow-layers-*"))
    assert [path.name for path in folder.iterdir()] == ["result.json"]
