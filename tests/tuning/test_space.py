from __future__ import annotations

import dataclasses

import optuna
import pytest

from exporter.config import BuildConfig, PruneConfig
from exporter.option import check_limits
from exporter.tuning.space import FIRST, KEPT, KNOBS, WIDTHS, chosen_by, with_choices


def test_every_value_of_every_knob_makes_a_build_that_is_accepted() -> None:
    for knob in KNOBS:
        for value in knob.values:
            config = with_choices(BuildConfig(), {**FIRST[0], knob.name: value}, 1000)
            check_limits(config)
            assert getattr(getattr(config, knob.part), knob.name) == value


def test_the_first_value_is_the_default_of_the_tool() -> None:
    for knob in KNOBS:
        assert getattr(getattr(BuildConfig(), knob.part), knob.name) == knob.values[0]


def test_a_share_of_the_work_becomes_a_budget() -> None:
    half = with_choices(BuildConfig(), {**FIRST[0], KEPT: 0.5}, 1001).prune

    assert (half.prune, half.max_macs, half.budget) == (None, 500, ("max_macs", 500.0))


def test_all_of_the_work_prunes_nothing() -> None:
    whole = with_choices(BuildConfig(), {**FIRST[0], KEPT: 1.0}, 1001).prune

    assert (whole.share, whole.budget) == (0.0, None)


def test_what_is_given_stays() -> None:
    config = BuildConfig(prune=PruneConfig(finetune_epochs=7))

    assert with_choices(config, FIRST[0], 1000).prune.finetune_epochs == 7


@pytest.mark.parametrize("widths", [(), ("16,32,32",), ("16,32,32", "32,64,64")])
def test_widths_are_a_choice_where_there_are_several(widths: tuple[str, ...]) -> None:
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"])

    values = chosen_by(study.ask(), widths)

    assert (WIDTHS in values) == (len(widths) > 1)
    assert {knob.name for knob in KNOBS} | {KEPT} == set(values) - {WIDTHS}
    if WIDTHS in values:
        config = with_choices(BuildConfig(), values, 1000)
        assert config.train == dataclasses.replace(config.train, widths=str(values[WIDTHS]))
