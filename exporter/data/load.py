"""The stage that turns a dataset into four disjoint parts of ``uint8 [N, H, W, 3]`` on disk."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from exporter.artifacts import Artifact, Cache
from exporter.config import DataConfig
from exporter.contract import InputContract
from exporter.data import source_of
from exporter.data.cut import Cut, Rows, check_disjoint, content_hashes, cut_parts
from exporter.data.decode import Resize, fit
from exporter.data.folder import SCRATCH
from exporter.data.size import Size, parse_size
from exporter.data.splits import Split, Splits
from exporter.option import check_limits
from exporter.progress import say

VERSION = 1

IMAGES_PER_WRITE = 1024


def load_splits(cache: Cache, config: DataConfig) -> Splits:
    """Return the dataset in four parts, from the cache unless its files have changed.

    Raises:
        ConfigError: a value of ``config`` cannot be honoured.
        DataError: the dataset is missing, damaged or too small; the message names what is wrong.
    """
    check_limits(config)
    parse_size(config.size)
    known = fingerprint(config)
    # Fetched by now; whether it was asked for must not decide over a hit.
    return cache.run(load, dataclasses.replace(config, download=False), known)


def fingerprint(config: DataConfig) -> str:
    """Return a digest of the dataset's files by name, size and time, without reading them.

    Fetches a missing dataset first where ``config.download`` says so. Raises DataError if the
    dataset is not there, or if its folder is not laid out as a dataset.
    """
    return source_of(config.data).fingerprint(config)


def load(out: Path, config: DataConfig, fingerprint: str) -> Splits:
    """Read, check, deduplicate and cut the dataset, and write its parts into ``out``.

    Args:
        out: Receives ``<part>-images.npy`` and ``<part>-labels.npy``.
        config: Which dataset, and how it is cut.
        fingerprint: Part of the cache's key: other files, another result.

    Raises:
        DataError: images are unreadable past the limit, or a class has too few.
    """
    started = time.perf_counter_ns()
    dataset = source_of(config.data).read(out, config)
    images = _resized(dataset.images, parse_size(config.size), config.resize)
    hashes = content_hashes(images)
    cut = cut_parts(hashes, dataset.labels, dataset.test, dataset.classes, config)
    _say_duplicates(cut)
    parts = {
        name: _write(out, name, images, dataset.labels, rows)
        for name, rows in (
            ("train", cut.train),
            ("calibration", cut.calibration),
            ("validation", cut.validation),
            ("test", cut.test),
        )
    }
    check_disjoint({name: content_hashes(split.arrays()[0]) for name, split in parts.items()})
    (out / SCRATCH).unlink(missing_ok=True)
    return Splits(
        source=dataset.name,
        **parts,
        contract=InputContract(
            height=images.shape[1],
            width=images.shape[2],
            resize=config.resize,
            classes=dataset.classes,
        ),
        duplicates=cut.duplicates,
        unreadable=dataset.unreadable,
        mirror_safe=dataset.mirror_safe,
        seconds=(time.perf_counter_ns() - started) / 1e9,
    )


def _resized(images: NDArray[np.uint8], size: Size | None, resize: Resize) -> NDArray[np.uint8]:
    """Bring images that came as arrays to the size asked for; decoded files have it already."""
    if size is None or size == images.shape[1:3]:
        return images
    resized = np.empty((len(images), *size, 3), np.uint8)
    for row, image in enumerate(images):
        resized[row] = fit(Image.fromarray(image), size, resize)
    return resized


def _write(
    out: Path, name: str, images: NDArray[np.uint8], labels: NDArray[np.int64], rows: Rows
) -> Split:
    """Write one part block by block, so that it never stands in memory as a whole."""
    image_file, label_file = out / f"{name}-images.npy", out / f"{name}-labels.npy"
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), *images.shape[1:])}
    with image_file.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, len(rows), IMAGES_PER_WRITE):
            block = images[rows[first : first + IMAGES_PER_WRITE]]
            file.write(np.ascontiguousarray(block).data)  # a source may hold NCHW underneath
    np.save(label_file, labels[rows])
    return Split(
        name=name,
        images=Artifact.of(image_file),
        labels=Artifact.of(label_file),
        count=len(rows),
    )


def _say_duplicates(cut: Cut) -> None:
    if cut.duplicates:
        say(
            f"{cut.duplicates} duplicate images dropped: {cut.across} training images equal a test "
            f"image, {cut.contradicting} had another label than the image that was kept."
        )
