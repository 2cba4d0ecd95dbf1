from __future__ import annotations

from collections.abc import Sequence

import pytest

from exporter.artifacts import StageRun
from exporter.errors import GraphError
from exporter.recovery.ladder import Ladder, Rung, Solution, climb
from exporter.report.not_measured import NotMeasured
from tests.recovery.fakes import ladder, result, solution


def rungs(**numbers: Sequence[int]) -> dict[str, Rung]:
    """Rungs that try the solutions of these numbers, and stop where one is enough."""

    def rung(tried: Sequence[int]) -> Rung:
        def climbed(ladder: Ladder) -> None:
            for number in tried:
                made = ladder.attempt(str(number), lambda n=number: solution(n))  # type: ignore[misc]
                if ladder.keep_if_better(made):
                    return

        return climbed

    return {name: rung(tried) for name, tried in numbers.items()}


def kept(found: Ladder) -> list[str]:
    return [attempt.what for attempt in found.attempts if attempt.kept]


def test_within_the_budget_at_once_nothing_more_is_done() -> None:
    found = ladder(0.5, result(189))

    stopped = climb(found, rungs(ranges=[0], corrections=[1]))

    assert [attempt.what for attempt in found.attempts] == ["0"]
    assert found.best.solution == solution(0)
    assert stopped.startswith("stopped at ranges")
    assert "0.50 points" in stopped


def test_the_ladder_stops_in_the_middle_of_a_rung() -> None:
    found = ladder(0.5, result(150), result(140), result(189), result(190))

    stopped = climb(found, rungs(ranges=[0], corrections=[1, 2, 3], rounding=[3]))

    assert [attempt.rung for attempt in found.attempts] == ["ranges", *["corrections"] * 2]
    assert kept(found) == ["0", "2"]
    assert [attempt.gain_points for attempt in found.attempts] == [None, -5.0, 19.5]
    assert stopped.startswith("stopped at corrections")


def test_what_is_worse_is_dropped_and_among_equals_the_logits_decide() -> None:
    found = ladder(0, result(180, 0.3), result(180, 0.4), result(180, 0.2), result(179, 0.0))

    stopped = climb(found, rungs(ranges=[0], corrections=[1, 2], rounding=[3]))

    assert kept(found) == ["0", "2"]
    assert found.best.solution == solution(2)
    assert "all rungs" in stopped
    assert "5.00 points" in stopped


def test_what_cannot_be_done_is_told_and_passed_over() -> None:
    found = ladder(0, result(180), None, result(190))

    climb(found, rungs(ranges=[0], corrections=[1], rounding=[2]))

    refused = found.attempts[1]
    assert refused.result == NotMeasured(not_measured="no such kernel.")
    assert (refused.gain_points, refused.kept) == (None, False)
    assert kept(found) == ["0", "2"]


def test_a_network_that_cannot_be_quantized_at_all_is_an_error() -> None:
    with pytest.raises(GraphError, match="no such kernel"):
        climb(ladder(0, None), rungs(ranges=[0]))


def test_an_attempt_costs_what_was_prepared_for_it_too() -> None:
    runs: list[StageRun] = []
    found = ladder(0, *map(result, (180, 181, 182)))
    found.runs = runs

    def run(cached: bool) -> None:
        runs.append(StageRun(name="any", seconds=1, cached=cached))

    def made(number: int, cached: bool) -> Solution:
        run(cached)
        return solution(number)

    def ranges(ladder: Ladder) -> None:
        ladder.keep_if_better(ladder.attempt("0", lambda: made(0, False)))
        ladder.keep_if_better(ladder.attempt("1", lambda: made(1, True)))

    def fallback(ladder: Ladder) -> None:
        run(False)  # a scan
        ladder.keep_if_better(ladder.attempt("2", lambda: made(2, True)))

    climb(found, {"ranges": ranges, "fallback": fallback})

    assert [attempt.cached for attempt in found.attempts] == [False, True, False]
    assert all(0 <= attempt.seconds < 60 for attempt in found.attempts)
