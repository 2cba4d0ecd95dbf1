"""Datasets: one source per file, and a table of those that have a name.

Importing the table loads neither torch nor scikit-learn; a source imports them when it reads.
"""

from __future__ import annotations

from exporter.data.cifar10 import CIFAR10
from exporter.data.digits import DIGITS
from exporter.data.folder import FOLDER
from exporter.data.source import Source

__all__ = ["DATASETS", "source_of"]

DATASETS: dict[str, Source] = {"digits": DIGITS, "cifar10": CIFAR10}


def source_of(data: str) -> Source:
    """Return the source that ``--data`` names; whatever is not in the table is a folder."""
    return DATASETS.get(data, FOLDER)
