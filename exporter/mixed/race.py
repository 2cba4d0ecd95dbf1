"""Is one file faster than another? Both timed in turns, beside a second session of the first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.artifacts import Artifact
from exporter.progress import Silent, shown_on
from exporter.verification.latency import time_models
from exporter.verification.paired import Ratio, paired_ratio

THREADS = 1
SECONDS = 0.8, 2.4
"""Time of one race, all three sessions together; the second where the first decided nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Race:
    """How a race ended."""

    ratio: Ratio
    """Time of the challenger over that of the champion."""
    same_file: Ratio
    """The champion's file against itself."""

    @property
    def noise(self) -> float:
        """Factor that a difference must exceed to be one."""
        return self.same_file.farthest

    @property
    def won(self) -> bool:
        """Whether the challenger is faster, beyond the noise with its whole interval."""
        return self.ratio.value < 1 and self.ratio.beyond(self.noise)

    @property
    def undecided(self) -> bool:
        """Whether the challenger seems faster, but not beyond the noise."""
        return self.ratio.value < 1 and not self.won


Racing = Callable[[Artifact, Artifact], Race]
"""Champion and challenger -> how it ended."""


def racing(image: NDArray[np.uint8]) -> Racing:
    """Return what times two files on ``image``, ``uint8 [H, W, C]``, one thread."""

    def race(champion: Artifact, challenger: Artifact) -> Race:
        rng = np.random.default_rng(0)
        files = {"champion": champion, "again": champion, "challenger": challenger}
        for seconds in SECONDS:
            with shown_on(Silent()):  # whoever asks shows how far he is
                blocks, _ = time_models(files, image, rng, threads=THREADS, seconds=seconds)
            middles = {name: np.median(times, axis=1) for name, times in blocks.items()}
            found = Race(
                ratio=paired_ratio(middles["challenger"], middles["champion"], rng),
                same_file=paired_ratio(middles["again"], middles["champion"], rng),
            )
            if not found.undecided:
                break
        return found

    return race
