from __future__ import annotations

import pytest

from exporter.recovery.effect import Effect
from exporter.recovery.fallback import fall_back, float_sets
from exporter.recovery.ladder import Ladder, Solution
from exporter.recovery.sensitivity import LayerSensitivity, QuantizationSensitivity
from exporter.report.recovery import RecoveryResult
from tests.recovery.fakes import ladder, result, solution


def scan(*layers: tuple[str, float, float, tuple[str, ...]]) -> QuantizationSensitivity:
    """Layers with the divergence of both and of the weights, and who writes their input."""
    return QuantizationSensitivity(
        images=64,
        layers=tuple(
            LayerSensitivity(
                layer=name,
                operator="Conv",
                macs=10,
                both=Effect(kl=both, logit_error=0, flips=0),
                weights=Effect(kl=weights, logit_error=0, flips=0),
                writers=writers,
            )
            for name, both, weights, writers in layers
        ),
    )


TWELVE = scan(*((f"l{n:02d}", 12.0 - n, 12.0 - n, ()) for n in range(12)))
"""The first layers are the most sensitive ones."""


def judged_by_count(*results: RecoveryResult | None) -> tuple[Ladder, list[int]]:
    """A ladder that judges a solution by the number of its float layers, and their record."""
    found, sizes = ladder(0.5, *results), list[int]()
    found.keep_if_better(found.attempt("plain", lambda: solution(0)))
    return found, sizes


def run(found: Ladder, sizes: list[int], sensitivity: QuantizationSensitivity = TWELVE) -> None:
    def with_float(layers: tuple[str, ...]) -> Solution:
        sizes.append(len(layers))
        return solution(len(layers), layers)

    fall_back(found, sensitivity, with_float)


def test_layers_fall_back_in_the_order_of_their_sensitivity() -> None:
    found = scan(("a", 1, 1, ()), ("b", 3, 3, ("a",)), ("c", 2, 2, ("b",)), ("d", 0, 0, ()))

    assert float_sets(found) == [("b",), ("b", "c")]


def test_who_writes_the_input_that_suffers_falls_back_too() -> None:
    found = scan(("a", 1, 1, ()), ("b", 3, 0.1, ("a",)), ("c", 2, 2, ("b",)), ("d", 0, 0, ()))

    assert float_sets(found) == [("a", "b")]


@pytest.mark.parametrize(("layers", "most"), [(1, 0), (2, 1), (3, 2), (4, 2), (12, 6)])
def test_some_layers_stay_integers(layers: int, most: int) -> None:
    sets = float_sets(QuantizationSensitivity(images=64, layers=TWELVE.layers[:layers]))

    assert [len(names) for names in sets] == list(range(1, most + 1))


def test_the_fewest_layers_within_the_budget_are_kept() -> None:
    found, sizes = judged_by_count(*map(result, (150, 160, 170, 189, 190, 190, 190)))

    run(found, sizes)

    assert sizes == [1, 2, 4, 3]
    assert found.best.solution.float_layers == ("l00", "l01", "l02")
    assert [attempt.kept for attempt in found.attempts] == [True, False, False, False, True]


def test_one_layer_can_be_enough() -> None:
    found, sizes = judged_by_count(result(150), result(190))

    run(found, sizes)

    assert sizes == [1]
    assert found.best.solution.float_layers == ("l00",)


def test_without_success_the_most_accurate_is_kept() -> None:
    found, sizes = judged_by_count(*map(result, (150, 160, 170, 0, 165, 0, 168)))

    run(found, sizes)

    assert sizes == [1, 2, 4, 6]
    assert found.best.solution.float_layers == ("l00", "l01")


def test_float_layers_that_gain_no_image_are_not_worth_their_time() -> None:
    found, sizes = judged_by_count(result(150, 0.9), *(result(150, 0.1) for _ in range(6)))

    run(found, sizes)

    assert len(sizes) > 1
    assert found.best.solution == solution(0)


def test_a_set_that_cannot_stay_in_float_is_passed_over() -> None:
    found, sizes = judged_by_count(result(150), None, result(190), *[None] * 4)

    run(found, sizes)

    assert sizes == [1, 2]
    assert found.best.solution.float_layers == ("l00", "l01")
