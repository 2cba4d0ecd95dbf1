from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.report.model import Flips, WorstClass
from exporter.verification.accuracy import (
    Accuracy,
    accuracy,
    class_accuracies,
    compare,
    majority_top1,
    worst_class,
)
from exporter.verification.mcnemar import mcnemar_p
from exporter.verification.score_interval import drop_interval


def logits_of(predicted: Sequence[int], classes: int = 3) -> NDArray[np.float32]:
    return np.eye(classes, dtype=np.float32)[list(predicted)] * 5 - 2


LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2], np.int64)
BEFORE = logits_of([0, 0, 0, 1, 1, 1, 0, 2, 2, 0])  # right: 3 + 2 + 2
AFTER = logits_of([0, 0, 1, 2, 1, 1, 1, 0, 0, 0])  # right: 2 + 3 + 0


def test_accuracy_is_in_percent() -> None:
    assert accuracy(BEFORE, LABELS) == Accuracy(correct=7, total=10, top1=70.0)


def test_the_most_frequent_class_is_what_a_model_has_to_beat() -> None:
    assert majority_top1(np.array([2, 0, 2, 1, 2])) == 60.0


def test_comparison_counts_flips_by_direction() -> None:
    result = compare(BEFORE, AFTER, LABELS)

    assert result.drop_points == 20.0
    # changed: 2 (right to wrong), 3 (wrong to wrong), 6 (wrong to right), 7 and 8 (right to wrong)
    assert result.flips == Flips(right_to_wrong=3, wrong_to_right=1, wrong_to_wrong=1)
    assert (result.changed, result.changed_share) == (5, 0.5)


def test_comparison_with_itself_changes_nothing() -> None:
    result = compare(BEFORE, BEFORE, LABELS)

    assert (result.drop_points, result.changed) == (0.0, 0)
    assert result.flips == Flips(right_to_wrong=0, wrong_to_right=0, wrong_to_wrong=0)


def test_a_gain_is_a_negative_drop() -> None:
    assert compare(AFTER, BEFORE, LABELS).drop_points == -20.0


def test_the_interval_is_in_points_and_as_wide_as_asked() -> None:
    ninety_five = compare(BEFORE, AFTER, LABELS)
    eighty = compare(BEFORE, AFTER, LABELS, confidence=0.8)

    assert ninety_five.drop_ci == tuple(100 * end for end in drop_interval(3, 1, 10))
    assert eighty.drop_ci == tuple(100 * end for end in drop_interval(3, 1, 10, 0.8))
    assert ninety_five.mcnemar_p == mcnemar_p(3, 1) == 0.625


@pytest.mark.parametrize(("lost", "total"), [(3, 1000), (1, 1000), (7, 700), (23, 10000)])
def test_a_drop_is_the_float_that_a_person_would_type(lost: int, total: int) -> None:
    labels = np.zeros(total, np.int64)
    before = logits_of([0] * total)
    after = logits_of([1] * lost + [0] * (total - lost))

    drop = compare(before, after, labels).drop_points

    assert drop == float(f"{100 * lost / total:.12g}")


def test_classes_one_by_one() -> None:
    ant, bee, cat = class_accuracies(BEFORE, AFTER, LABELS, ("ant", "bee", "cat"))

    assert (ant.name, ant.count, ant.before, ant.after) == ("ant", 4, 75.0, 50.0)
    assert (ant.lost, ant.gained, ant.drop_points) == (1, 0, 25.0)
    assert (bee.lost, bee.gained) == (0, 1)
    assert bee.drop_points == pytest.approx(-100 / 3)
    assert cat.before == pytest.approx(200 / 3)
    assert cat.after == 0.0
    assert [entry.mcnemar_p for entry in (ant, bee, cat)] == [1.0, 1.0, 1.0]


def test_the_test_of_a_class_allows_for_having_looked_at_all_of_them() -> None:
    labels = np.array([0] * 10 + [1], np.int64)
    (first, _) = class_accuracies(
        logits_of(labels.tolist()), logits_of([1] * 11), labels, ("a", "b")
    )

    assert first.mcnemar_p == pytest.approx(2 * mcnemar_p(10, 0))


def test_worst_class_is_the_largest_drop() -> None:
    worst = worst_class(class_accuracies(BEFORE, AFTER, LABELS, ("ant", "bee", "cat")))

    assert worst.name == "cat"
    assert worst.before == pytest.approx(200 / 3)
    assert (worst.after, worst.count) == (0.0, 3)
    assert worst.drop_points == pytest.approx(200 / 3)


def test_worst_class_skips_classes_without_images() -> None:
    labels = np.array([1, 1, 3, 3], np.int64)
    before, after = logits_of([1, 1, 3, 3], 4), logits_of([1, 1, 3, 0], 4)

    worst = worst_class(class_accuracies(before, after, labels, ("a", "b", "c", "d")))

    assert worst == WorstClass(name="d", before=100.0, after=50.0, drop_points=50.0, count=2)


def test_worst_class_may_have_gained() -> None:
    labels = np.array([0, 1], np.int64)
    found = class_accuracies(logits_of([1, 0]), logits_of([0, 1]), labels, ("a", "b", "c"))

    worst = worst_class(found)

    assert (worst.name, worst.drop_points) == ("a", -100.0)
