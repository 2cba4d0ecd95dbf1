from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest

from exporter.verification.mcnemar import mcnemar_p


@pytest.mark.parametrize(("lost", "gained"), [(0, 1), (5, 0), (3, 1), (2, 7), (4, 4), (6, 5)])
def test_p_is_the_share_of_coin_tosses_that_are_as_lopsided(lost: int, gained: int) -> None:
    flips = lost + gained
    tosses = list(product((0, 1), repeat=flips))
    as_lopsided = sum(abs(2 * sum(toss) - flips) >= abs(lost - gained) for toss in tosses)

    assert mcnemar_p(lost, gained) == pytest.approx(float(Fraction(as_lopsided, len(tosses))))


def test_it_is_symmetric_and_no_flips_tell_nothing() -> None:
    assert mcnemar_p(3, 9) == mcnemar_p(9, 3)
    assert mcnemar_p(0, 0) == 1.0


def test_many_flips_agree_with_the_normal_approximation() -> None:
    # 2,500 +- 35.4; 2,600 is 2.81 standard deviations off (with the half for continuity)
    assert mcnemar_p(2600, 2400) == pytest.approx(0.00489, abs=1e-4)
