from __future__ import annotations

import json

import pytest

from exporter.errors import ConfigError
from exporter.tuning.study import _lasting
from exporter.tuning.wish import Wish, budget_seconds, read_wish, width_choices

WISH = Wish(
    seconds=60.0,
    trials=0,
    max_drop=0.5,
    max_ms=0.1,
    max_kb=250.0,
    widths=("16,32,32", "32,64,64"),
    quick_share=0.25,
    seed=3,
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), (" 2 m ", 120)]
)
def test_budgets(text: str, seconds: float) -> None:
    assert budget_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-3m", "0s", "1d", "3 0m", "1e3s"])
def test_what_is_no_budget_is_refused_with_the_value(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--budget is .*30m"):
        budget_seconds(text)


def test_width_choices() -> None:
    assert width_choices("16,32,32; 32,64,64;") == ("16,32,32", "32,64,64")
    assert width_choices("") == ()


def test_limits_are_passed_relative_to_them() -> None:
    assert WISH.excess(drop=0.5, ms=0.1, kb=250.0) == (0.0, 0.0, 0.0)
    assert WISH.excess(drop=1.0, ms=0.2, kb=125.0) == pytest.approx((0.5, 1.0, -0.5))


def test_no_limit_is_never_passed() -> None:
    free = Wish(
        seconds=1.0, trials=0, max_drop=1.0, max_ms=0, max_kb=0, widths=(), quick_share=0, seed=0
    )

    assert free.excess(drop=0.0, ms=1e9, kb=1e9) == (-1.0, -1.0, -1.0)


def test_a_worker_reads_the_limits_that_the_founder_wrote() -> None:
    found = read_wish(json.dumps(_lasting(WISH)))

    assert _lasting(found) == _lasting(WISH)
