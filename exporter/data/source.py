"""What a source of images is: a way to name its content cheaply, and a way to read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporter.config import DataConfig
from exporter.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """Images as a source holds them, before duplicates are dropped and parts are cut."""

    name: str
    images: NDArray[np.uint8]
    """``[N, H, W, 3]``; may be mapped from a file in the stage's folder."""
    labels: NDArray[np.int64]
    """``[N]``, indices into ``classes``."""
    test: NDArray[np.bool_] | None
    """``[N]``, which images the source itself sets aside for testing; None if it doesn't."""
    classes: tuple[str, ...]
    mirror_safe: bool
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A row of the table of datasets."""

    summary: str
    fingerprint: Callable[[DataConfig], str]
    """Changes whenever the images do; reads none of them, and first fetches a missing dataset
    where the config allows it."""
    read: Callable[[Path, DataConfig], Dataset]
    """``read(out, config)`` returns the images; ``out`` may hold scratch files."""


def some_of(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, comma-separated, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")


def home_expanded(text: str, flag: str) -> Path:
    """Return the path with ``~`` replaced; raises DataError if there is no such home folder."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise DataError(f"{flag} is {text!r}, but there is no such home folder.") from error
