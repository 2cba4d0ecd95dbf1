"""Images for scores, with a progress line for those who wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from exporter.artifacts import Artifact
from exporter.contract import InputContract
from exporter.data.splits import Split
from exporter.progress import Advance, shown_on
from exporter.pruning.batches import BATCH, batches_to_score
from exporter.pruning.criteria import find_criterion
from exporter.pruning.groups import find_groups
from exporter.pruning.scores import score_channels

COUNT = BATCH + 6
CONTRACT = InputContract(height=8, width=8, classes=("a", "b"))


class Lines:
    """A display that notes the units of each line."""

    def __init__(self) -> None:
        self.done: list[tuple[str, float, float]] = []

    @contextmanager
    def task(self, description: str, total: float) -> Iterator[Advance]:
        amounts: list[float] = []
        yield lambda amount, note: amounts.append(amount)
        self.done.append((description, total, sum(amounts)))

    def message(self, text: str) -> None:
        raise AssertionError(text)


@pytest.fixture
def split(tmp_path: Path) -> Split:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8))
    np.save(tmp_path / "labels.npy", rng.integers(0, 2, COUNT))
    images, labels = (Artifact.of(tmp_path / f"{name}.npy") for name in ("images", "labels"))
    return Split(name="calibration", images=images, labels=labels, count=COUNT)


@pytest.mark.parametrize(
    ("criterion", "lines"), [("fisher", [("Scoring", COUNT, COUNT)]), ("l2", [])]
)
def test_a_score_that_looks_at_images_shows_how_far_it_is(
    split: Split, criterion: str, lines: list[tuple[str, float, float]]
) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2)
    )
    display = Lines()
    with shown_on(display):
        score_channels(
            find_criterion(criterion, "channels"),
            module,
            find_groups(module, CONTRACT),
            batches_to_score(split, CONTRACT),
        )
    assert display.done == lines
