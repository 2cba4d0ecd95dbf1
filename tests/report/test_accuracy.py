from __future__ import annotations

import dataclasses

import pytest

from exporter.report.accuracy import accuracy_lines, drop_in_words, p_value, points, steps_in_words
from exporter.report.model import BuildReport, Flips
from tests.sample_report import SAMPLE


def changed(p: float, drop: float, lost: int, gained: int) -> BuildReport:
    assert SAMPLE.evidence is not None
    accuracy = dataclasses.replace(SAMPLE.evidence.accuracy, mcnemar_p=p)
    return dataclasses.replace(
        SAMPLE,
        drop_points=drop,
        flips=Flips(right_to_wrong=lost, wrong_to_right=gained, wrong_to_wrong=3),
        evidence=dataclasses.replace(SAMPLE.evidence, accuracy=accuracy),
    )


@pytest.mark.parametrize(
    ("report", "start"),
    [
        (changed(1.0, 0.28, 2, 1), "That loss may be chance (95 % CI of the loss -0.71 to 1.26"),
        (changed(0.049, 1.4, 6, 1), "That loss is more than chance"),
        (changed(0.05, 1.4, 6, 1), "That loss may be chance"),
        (changed(0.5, -0.4, 1, 2), "That gain may be chance"),
        (changed(0.01, -2.0, 1, 9), "That gain is more than chance"),
        (changed(1.0, 0.0, 2, 2), "As many images were gained as lost"),
        (changed(1.0, 0.0, 0, 0), "No image was lost or gained"),
    ],
)
def test_whether_a_drop_is_more_than_chance(report: BuildReport, start: str) -> None:
    assert drop_in_words(report).startswith(start)
    assert drop_in_words(report).endswith("360 images can show a loss of 2.19 points or more.")


def test_steps_are_told_with_their_signs() -> None:
    assert steps_in_words(SAMPLE) == (
        "Points lost by step: pruning -0.28, export 0.00, quantization 0.56."
    )


def test_classes_that_lost_most_come_first_and_few_are_shown() -> None:
    assert SAMPLE.evidence is not None
    (one,) = SAMPLE.evidence.accuracy.classes
    many = tuple(
        dataclasses.replace(one, name=f"c{index}", drop_points=float(index)) for index in range(100)
    )
    lines = accuracy_lines(dataclasses.replace(SAMPLE.evidence.accuracy, classes=many))
    shown = [line.split(" | ")[0].strip("| ") for line in lines if line.startswith("| c")]

    assert shown == ["class", *(f"c{index}" for index in range(99, 79, -1))]
    assert lines[-1] == "80 classes that lost less are in report.json."


@pytest.mark.parametrize(("value", "text"), [(-0.001, "0.00"), (-0.28, "-0.28"), (0.555, "0.56")])
def test_points(value: float, text: str) -> None:
    assert points(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (0.0412, "0.041"), (2e-5, "below 0.0001"), (0.0, "below 0.0001")],
)
def test_p_value(value: float, text: str) -> None:
    assert p_value(value) == text
