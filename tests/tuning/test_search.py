"""The loop of trials, with a bench that trains nothing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from exporter.artifacts import Artifact
from exporter.config import BuildConfig, PruneConfig
from exporter.errors import ConfigError, GraphError
from exporter.targets import find_target
from exporter.tuning.bench import Made, Time
from exporter.tuning.frontier import frontier
from exporter.tuning.plan import Expected
from exporter.tuning.search import outcomes, points, search
from exporter.tuning.space import FIRST, Values, with_choices
from exporter.tuning.study import MACHINE, begin, open_study, sampler
from exporter.tuning.wish import Wish

FILE = Artifact(path=Path("model.onnx"), sha256="")
CPU = find_target("cpu-int8")
DENSE_MACS = 1000
WISH = Wish(
    seconds=60.0, trials=8, max_drop=2.0, max_ms=0.0, max_kb=0.0, widths=(), quick_share=0.0, seed=0
)


@dataclass
class FakePlanner:
    ms: float = 0.0

    def expected(self, max_macs: int) -> Expected:
        return Expected(ms=self.ms, kb=1.0)


@dataclass
class FakeDense:
    file: Artifact = FILE
    macs: int = DENSE_MACS
    top1: float = 95.0
    images: int = 10_000
    finetune_epochs: int = 8
    planner: FakePlanner = field(default_factory=FakePlanner)


@dataclass
class FakeBench:
    """Accuracy falls with what is pruned, time with it too."""

    config: BuildConfig = field(default_factory=BuildConfig)
    target: Any = CPU
    machine: str = "here"
    planner: FakePlanner = field(default_factory=FakePlanner)
    made: list[PruneConfig] = field(default_factory=list)
    fail: Exception | None = None
    slower: float = 1.0

    def dense(self, values: Values) -> Any:
        return FakeDense(planner=self.planner)

    def configured(self, values: Values) -> BuildConfig:
        return with_choices(self.config, values, DENSE_MACS)

    def make(self, config: BuildConfig) -> Made:
        self.made.append(config.prune)
        if self.fail:
            raise self.fail
        kept = (config.prune.max_macs or DENSE_MACS) / DENSE_MACS
        top1 = 95.0 - 4 * (1 - kept) - (config.prune.criterion == "fpgm")
        return Made(file=FILE, top1=top1, kb=100 * kept, reused=3, stages=4)

    def time(self, file: Artifact, yardstick: Artifact) -> Time:
        last = self.made[-1]
        kept = (last.max_macs or DENSE_MACS) / DENSE_MACS
        return Time(ratio=4 / kept, noise=1.01, yardstick_ms=0.4 * self.slower)


def started(wish: Wish = WISH) -> optuna.Study:
    study = optuna.create_study(
        directions=["maximize", "minimize", "minimize"], sampler=sampler(wish.seed)
    )
    begin(study, "recipe", wish, "here")
    return study


def run(study: optuna.Study, bench: FakeBench, wish: Wish = WISH) -> None:
    search(study, bench, wish)  # type: ignore[arg-type]


def test_the_defaults_come_first_and_every_trial_is_told() -> None:
    study, bench = started(), FakeBench()

    run(study, bench)

    chosen = [trial.params for trial in study.get_trials()]
    assert chosen[: len(FIRST)] == list(FIRST)
    assert len(chosen) == 8
    assert sum(outcomes(study).values()) == 8
    found = points(study)
    assert found[0].top1 == pytest.approx(93.0)
    assert found[0].ms == pytest.approx(0.05)
    assert (found[0].reused, found[0].stages) == (3, 4)
    assert all(point.feasible == (point.drop <= 2.0) for point in found)
    assert {point.trial for point in frontier(found)} <= {p.trial for p in found if p.feasible}


def test_times_are_told_by_the_first_measurement_of_the_yardstick() -> None:
    study, bench = started(), FakeBench()
    run(study, bench, dataclasses.replace(WISH, trials=1))
    bench.slower = 3.0  # a busier machine, for both files alike

    run(study, bench, dataclasses.replace(WISH, trials=2))

    half, quarter, whole = points(study)
    assert [half.ms, quarter.ms, whole.ms] == pytest.approx([0.05, 0.025, 0.1])


def test_what_cannot_keep_a_limit_is_not_made() -> None:
    wish = dataclasses.replace(WISH, max_ms=0.1, trials=3)
    study, bench = started(wish), FakeBench(planner=FakePlanner(ms=0.126))

    run(study, bench, wish)

    assert bench.made == []
    assert outcomes(study)["hopeless"] == 3


def test_an_estimate_a_little_over_the_limit_is_tried() -> None:
    wish = dataclasses.replace(WISH, max_ms=0.1, trials=3)
    study, bench = started(wish), FakeBench(planner=FakePlanner(ms=0.124))

    run(study, bench, wish)

    assert len(bench.made) == 3


def test_a_trial_far_behind_a_smaller_one_stops_early() -> None:
    wish = dataclasses.replace(WISH, quick_share=0.25, trials=1)
    study, bench = started(wish), FakeBench()
    run(study, bench, wish)
    assert [made.finetune_epochs for made in bench.made] == [2, 0]  # a quarter of 8, then all

    bench.made.clear()
    study.enqueue_trial({**FIRST[0], "kept": 0.55, "criterion": "fpgm"})
    run(study, bench, dataclasses.replace(wish, trials=3))

    assert outcomes(study)["behind"] == 1
    stopped = study.get_trials(states=(TrialState.PRUNED,))[0]
    assert stopped.params["criterion"] == "fpgm"
    assert [made.finetune_epochs for made in bench.made if made.criterion == "fpgm"] == [2]


def test_the_same_choice_is_not_made_twice() -> None:
    study, bench = started(), FakeBench()
    study.enqueue_trial(dict(FIRST[0]))

    run(study, bench, dataclasses.replace(WISH, trials=4))

    assert len(bench.made) == 3
    assert outcomes(study)["repeated"] == 1


def test_a_search_in_which_nothing_is_new_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, bench = optuna.create_study(directions=["maximize", "minimize", "minimize"]), FakeBench()
    study.set_user_attr(MACHINE, "here")
    monkeypatch.setattr("exporter.tuning.search.chosen_by", _always(FIRST[0]))

    run(study, bench, dataclasses.replace(WISH, trials=0))

    assert len(bench.made) == 1
    assert outcomes(study)["repeated"] == 30


def _always(values: Values) -> Any:
    def chosen(trial: optuna.Trial, widths: tuple[str, ...]) -> Values:
        for name, value in values.items():
            trial.suggest_categorical(name, [value])
        return values

    return chosen


def test_a_trial_that_fails_is_told_and_the_search_goes_on() -> None:
    study, bench = started(), FakeBench(fail=GraphError("no such kernel"))

    run(study, bench, dataclasses.replace(WISH, trials=3))

    assert outcomes(study)["failed"] == 3
    assert study.get_trials()[0].user_attrs["error"] == "no such kernel"


def test_a_share_that_cannot_be_reached_is_no_failure() -> None:
    study, bench = started(), FakeBench(fail=ConfigError("cannot be reached"))

    run(study, bench, dataclasses.replace(WISH, trials=2))

    assert outcomes(study)["impossible"] == 2


def test_a_bug_is_no_failed_trial() -> None:
    study, bench = started(), FakeBench(fail=ZeroDivisionError("a bug"))

    with pytest.raises(ZeroDivisionError):
        run(study, bench)


def test_who_goes_on_begins_with_what_was_interrupted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'search.db'}"
    study, bench = open_study(url, "search", WISH), FakeBench()
    begin(study, "recipe", WISH, "here")
    bench.fail = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        run(study, bench)
    bench.fail = None

    again = open_study(url, "search", WISH)
    begin(again, "recipe", WISH, "here")
    run(again, bench, dataclasses.replace(WISH, trials=3))

    assert sorted(dict(point.values)["kept"] for point in points(again)) == [0.25, 0.5, 1.0]


def test_times_of_two_machines_are_not_mixed() -> None:
    study = started()
    study.set_user_attr(MACHINE, "another")

    with pytest.raises(ConfigError, match="another processor"):
        run(study, FakeBench())


def test_a_search_that_asks_for_something_else_is_not_continued() -> None:
    study = started()

    begin(study, "recipe", dataclasses.replace(WISH, seconds=1.0, trials=1), "here")  # more time
    with pytest.raises(ConfigError, match="asks for something else"):
        begin(study, "recipe", dataclasses.replace(WISH, max_drop=3.0), "here")
    with pytest.raises(ConfigError, match="asks for something else"):
        begin(study, "other recipe", WISH, "here")


def test_a_worker_needs_a_search_to_join(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'empty.db'}"

    with pytest.raises(ConfigError, match="There is no search called 'search'"):
        open_study(url, "search", None)


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/a.db", "oracle9://x"])
def test_a_storage_that_cannot_be_used_is_refused_with_its_name(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        open_study(url, "search", WISH)


def test_the_same_seed_proposes_the_same() -> None:
    chosen = []
    for _ in range(2):
        study = started()
        run(study, FakeBench())
        chosen.append([trial.params for trial in study.get_trials()])

    assert chosen[0] == chosen[1]
    assert isinstance(sampler(0), optuna.samplers.TPESampler)
