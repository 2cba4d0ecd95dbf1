"""A folder of image files, decoded by several threads into one array on disk."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporter.config import DataConfig
from exporter.data.decode import Resize, decode, silent_pillow, upright_size
from exporter.data.listing import Listing, list_folder
from exporter.data.size import Size, parse_size
from exporter.data.source import Dataset, Source, home_expanded, some_of
from exporter.errors import DataError
from exporter.progress import say, track

MIXED_SIZE = Size(64, 64)
SCRATCH = "decoded.npy"
FILES_PER_TASK = 64


def _fingerprint(config: DataConfig) -> str:
    return list_folder(_root(config)).fingerprint()


def _read(out: Path, config: DataConfig) -> Dataset:
    listing = list_folder(_root(config))
    _say_what_is_left_out(listing)
    files, labels, is_test = [], [], []
    for part in listing.parts:
        for label, of_class in enumerate(part.classes.values()):
            files += [file.path for file in of_class]
            labels += [label] * len(of_class)
            is_test += [part.is_test] * len(of_class)
    paths = [listing.root / file for file in files]
    with silent_pillow():
        size = parse_size(config.size) or _common_size(paths)
        images, failures = _decode_all(out / SCRATCH, paths, size, config.resize)
    unreadable = tuple(_printable(files[row]) for row in sorted(failures))
    if unreadable:
        reason = _printable(failures[min(failures)])
        _check_unreadable(unreadable, len(files), config.max_unreadable, reason)
    good = np.array([row for row in range(len(files)) if row not in failures], np.int64)
    return Dataset(
        name=_printable(listing.root.resolve().name),
        images=_without_gaps(images, good),
        labels=np.array(labels, np.int64)[good],
        test=np.array(is_test)[good] if any(is_test) else None,
        classes=tuple(listing.parts[0].classes),
        mirror_safe=True,
        unreadable=unreadable,
    )


def _root(config: DataConfig) -> Path:
    if not config.data.strip():
        raise DataError("--data is empty. Give the name of a dataset or a folder of images.")
    return home_expanded(config.data, "--data")


def _say_what_is_left_out(listing: Listing) -> None:
    if listing.left_out:
        say(f"Not used, since the parts are known: {some_of(listing.left_out)} in {listing.root}.")
    for part in listing.parts:
        if part.loose:
            say(f"Not used: {part.loose} images in {part.folder} outside the class folders.")


def _common_size(paths: list[Path]) -> Size:
    """Return the size that all readable images share, or 64x64 if they don't share one."""
    common: Size | None = None
    for path in paths:
        size = upright_size(path)
        if size is None:
            continue
        if common is not None and size != common:
            say(f"Image sizes differ; all become {MIXED_SIZE}. Choose another with --size.")
            return MIXED_SIZE
        common = size
    if common is None:
        return MIXED_SIZE  # nothing is readable, which is reported after decoding
    if not common.usable:
        say(f"All images are {common}; they become {MIXED_SIZE}. Choose another with --size.")
        return MIXED_SIZE
    say(f"All images are {common}, and so is the network's input.")
    return common


def _decode_all(
    scratch: Path, paths: list[Path], size: Size, resize: Resize
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Return the images ``[N, H, W, 3]``, mapped from ``scratch``, and what failed by row."""
    images = np.lib.format.open_memmap(
        scratch, mode="w+", dtype=np.uint8, shape=(len(paths), *size, 3)
    )
    _reserve(scratch)
    failures: dict[int, str] = {}

    def decode_rows(rows: range) -> int:
        for row in rows:
            try:
                images[row] = decode(paths[row], size, resize)
            except DataError as error:
                failures[row] = str(error)
        return len(rows)

    tasks = [
        range(first, min(first + FILES_PER_TASK, len(paths)))
        for first in range(0, len(paths), FILES_PER_TASK)
    ]
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        track("Decoding images", len(paths)) as advance,
    ):
        for count in pool.map(decode_rows, tasks):
            advance(count, "")
    return images, failures


def _reserve(file: Path) -> None:
    """Take the disk space now: a full disk is an OSError here, but kills who writes to a map."""
    if hasattr(os, "posix_fallocate"):  # macOS lacks it
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)


def _check_unreadable(files: tuple[str, ...], total: int, limit: float, reason: str) -> None:
    share = len(files) / total
    if share > limit:
        raise DataError(
            f"{len(files)} of {total} images ({share:.2%}) cannot be read, more than "
            f"--max-unreadable {limit:g} allows: {some_of(files)}. First reason: {reason}"
        )
    say(f"{len(files)} of {total} images cannot be read and are left out: {some_of(files)}.")


def _without_gaps(images: NDArray[np.uint8], good: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the rows ``good`` (ascending), moved together in place: no second copy is made."""
    for place, row in enumerate(good):
        if place != row:
            images[place] = images[row]
    return images[: len(good)]


def _printable(text: str) -> str:
    """File names need not be UTF-8; results and messages are."""
    return text.encode("utf-8", "backslashreplace").decode()


FOLDER = Source(
    summary="a folder with one folder of images per class, or with train/ and test/",
    fingerprint=_fingerprint,
    read=_read,
)
