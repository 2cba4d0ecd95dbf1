"""CIFAR-10: 60,000 colour images of 32x32 pixels in 10 classes, by way of torchvision.

A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009.
torchvision (and with it torch) is only imported when the images are read or fetched.
"""

from __future__ import annotations

import pickle
from http.client import HTTPException
from pathlib import Path
from types import ModuleType

import numpy as np

from exporter.artifacts import digest
from exporter.config import DataConfig
from exporter.data.source import Dataset, Source, home_expanded
from exporter.errors import DataError
from exporter.progress import say

FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
FILES = ("batches.meta", *(f"data_batch_{index}" for index in range(1, 6)), "test_batch")


def _fingerprint(config: DataConfig) -> str:
    root = home_expanded(config.data_root, "--data-root")
    missing = [name for name in FILES if not (root / FOLDER / name).is_file()]
    if missing and not config.download:
        raise DataError(
            f"CIFAR-10 is not in {root / FOLDER} ({missing[0]} is missing). Fetch it with "
            f"--download (170 MB), or unpack {ARCHIVE} in {root}."
        )
    if missing:
        _fetch(root)
    stats = [(name, (root / FOLDER / name).stat()) for name in FILES]
    return digest([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def _fetch(root: Path) -> None:
    say(f"Fetching CIFAR-10 (170 MB) into {root} …")
    try:
        _torchvision_datasets().CIFAR10(root, download=True)
    # OSError covers most of the network and the disk, EOFError an archive that ends too early.
    except (OSError, RuntimeError, EOFError, HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"CIFAR-10 could not be fetched: {reason.rstrip('.')}. Check the network and {root}, "
            f"or put {ARCHIVE} there yourself and run again with --download."
        ) from error


def _read(out: Path, config: DataConfig) -> Dataset:
    root = home_expanded(config.data_root, "--data-root")
    cifar10 = _torchvision_datasets().CIFAR10
    try:
        training, test = cifar10(root, train=True), cifar10(root, train=False)
    # torchvision checks every file's md5 first, so the last three need a very odd disk.
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise DataError(
            f"CIFAR-10 in {root / FOLDER} is damaged. Delete that folder and fetch it again with "
            "--download."
        ) from error
    return Dataset(
        name="cifar10",
        images=np.concatenate([training.data, test.data]),
        labels=np.array(training.targets + test.targets, np.int64),
        test=np.arange(len(training.data) + len(test.data)) >= len(training.data),
        classes=tuple(training.classes),
        mirror_safe=True,
    )


def _torchvision_datasets() -> ModuleType:
    try:
        import torchvision.datasets
    except ImportError as error:
        raise DataError(
            "--data cifar10 needs torchvision. Install it with: pip install torchvision."
        ) from error
    datasets: ModuleType = torchvision.datasets
    return datasets


CIFAR10 = Source(
    summary="CIFAR-10, 60,000 images of 32x32; fetched with --download (170 MB)",
    fingerprint=_fingerprint,
    read=_read,
)
