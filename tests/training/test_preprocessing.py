"""A normalisation that fits better is found and named; chance is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from exporter.data.splits import Splits
from exporter.normalization import NORMALIZATIONS
from exporter.training.preprocessing import Preprocessing, mismatch, try_normalizations

TEN = tuple("abcdefghij")


class Picky(nn.Module):
    """Right about every image, as long as black is -1."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        brightness = pixels.mean((2, 3)).flip(1)
        return brightness if -1.2 < float(pixels.min()) < -0.9 else torch.zeros_like(brightness)


@pytest.mark.parametrize("stated", ["none", "inception"])
def test_every_usual_normalisation_is_tried(splits: Splits, stated: str) -> None:
    seen = try_normalizations(
        Picky(), NORMALIZATIONS[stated], splits.contract, splits.validation, 50.0
    )
    others = dict.fromkeys(NORMALIZATIONS, pytest.approx(100 / 3))
    assert seen.top1 == others | {"inception": 100.0}
    assert (seen.stated, seen.images, seen.validation_top1) == (stated, 30, 50.0)
    warning = mismatch(seen, splits.contract.classes)
    if stated == "inception":
        assert warning == ""
    else:
        assert "33.3 % right with the normalisation as stated (none)" in warning
        assert "100.0 % with inception, 66.7 points more" in warning
        assert warning.endswith("--normalization inception.")


def seen(images: int, stated: float, other: float) -> Preprocessing:
    top1 = {"own": stated, "imagenet": other, "raw": 10.0}
    return Preprocessing(validation_top1=stated, stated="own", images=images, top1=top1)


@pytest.mark.parametrize(
    ("images", "stated", "other", "named"),
    [
        (500, 90.0, 91.9, False),  # less than two points
        (500, 90.0, 94.0, True),  # 4.0 points, twice the deviation is 3.2
        (100, 90.0, 94.0, False),  # 7.6
        (100, 80.0, 92.0, True),  # 9.7
        (500, 90.0, 40.0, False),
    ],
)
def test_only_a_clear_difference_is_named(
    images: int, stated: float, other: float, named: bool
) -> None:
    assert bool(mismatch(seen(images, stated, other), TEN)) is named


@pytest.mark.parametrize(("stated", "warned"), [(12.0, True), (27.9, True), (28.1, False)])
def test_weights_that_know_nothing_are_told(stated: float, warned: bool) -> None:
    warning = mismatch(seen(500, stated, stated), TEN)
    assert bool(warning) is warned
    if warned:
        assert "where guessing gives 10.0 %" in warning
        assert "Do they know these classes in this order: a, b, c, …?" in warning
