"""Images and labels of one dataset, in four disjoint parts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exporter.artifacts import Artifact
from exporter.contract import InputContract


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """One part: ``uint8 [N, H, W, 3]`` images and ``int64 [N]`` labels, memory-mapped when read."""

    name: str
    images: Artifact
    labels: Artifact
    count: int

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return images and labels; the images stay on disk until touched."""
        return np.load(self.images.path, mmap_mode="r"), np.load(self.labels.path)


@dataclass(frozen=True, kw_only=True, slots=True)
class Splits:
    """A dataset. No image stands in two parts, by content.

    ``train`` teaches, ``calibration`` sets activation ranges, ``validation`` steers every choice;
    all three are cut from the training images. ``test`` is read by ``verify`` alone.
    """

    source: str
    train: Split
    calibration: Split
    validation: Split
    test: Split
    contract: InputContract
    duplicates: int
    """Images dropped because the same pixels stand elsewhere (test wins over training)."""
    unreadable: tuple[str, ...]
    """Files that could not be decoded, relative to the dataset's folder."""
    mirror_safe: bool
    """Whether an image mirrored left to right keeps its class."""
    seconds: float = field(default=0.0, compare=False)
    """Time it took to decode and split."""
