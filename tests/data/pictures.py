"""Small image files, and folders of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 8


def noise(seed: int, height: int = SIDE, width: int = SIDE) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def save_class(folder: Path, count: int, seed: int) -> None:
    """Write ``0.png``, ``1.png``, ...; seeds a thousand apart share no image."""
    for index in range(count):
        save(folder / f"{index}.png", noise(1000 * seed + index))


def save_tree(root: Path, seed: int = 0, **counts: int) -> Path:
    """Write one tree: so many different images per class."""
    for place, (name, count) in enumerate(counts.items()):
        save_class(root / name, count, seed + place)
    return root
