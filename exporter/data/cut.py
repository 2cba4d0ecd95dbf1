"""Which image goes where: duplicates out, then a stratified, seeded cut into four parts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.config import DataConfig
from exporter.data.source import some_of
from exporter.errors import DataError

Rows = NDArray[np.int64]

LARGEST_CALIBRATION_SHARE = 0.25
FEWEST_TRAINING = 3
"""Different training images a class needs: one each to learn from, validate and calibrate with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """The rows of each part, in a random order: any leading rows are a fair sample."""

    train: Rows
    calibration: Rows
    validation: Rows
    test: Rows
    duplicates: int
    """Rows dropped because an earlier row, or a test row, has the same pixels."""
    across: int
    """How many of these were training images that equal a test image."""
    contradicting: int
    """How many of these had another label than the row that was kept."""


def content_hashes(images: NDArray[np.uint8]) -> list[bytes]:
    """Return one hash per image of ``[N, H, W, 3]``; equal pixels have equal hashes."""
    return [
        hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        for image in images
    ]


def cut_parts(
    hashes: list[bytes],
    labels: NDArray[np.int64],
    test: NDArray[np.bool_] | None,
    classes: tuple[str, ...],
    config: DataConfig,
) -> Cut:
    """Return the four parts of a dataset of N images.

    Args:
        hashes: Content hashes, N of them.
        labels: ``[N]``, indices into ``classes``.
        test: ``[N]``, the dataset's own test images, or None to cut ``config.test_share`` off.
        classes: Names, for messages.
        config: Shares, limits and the seed.

    Raises:
        DataError: a class has too few different images for every part to get one.
    """
    is_test = np.zeros(len(labels), bool) if test is None else test
    kept = _first_of_each(hashes, [*np.flatnonzero(is_test), *np.flatnonzero(~is_test)])
    originals = np.array([kept[content] for content in hashes], np.int64)
    rows = np.array(sorted(kept.values()), np.int64)
    training = [rows[~is_test[rows] & (labels[rows] == label)] for label in range(len(classes))]
    own_test = rows[is_test[rows]]
    counts = np.array([len(of_class) for of_class in training])
    _check_counts(counts, FEWEST_TRAINING + (test is None), "training", classes)
    if test is not None:
        _check_counts(np.bincount(labels[own_test], minlength=len(classes)), 1, "test", classes)

    tests = _share(counts, config.test_share, spare=FEWEST_TRAINING) if test is None else counts * 0
    validations = _share(counts - tests, config.validation_share, spare=FEWEST_TRAINING - 1)
    wanted = int((counts - tests).sum() * LARGEST_CALIBRATION_SHARE)
    calibrations = _proportional(
        min(config.calibration_images, wanted), counts - tests, counts - tests - validations - 1
    )
    generator = np.random.default_rng(config.split_seed)
    pieces = [
        np.split(generator.permutation(of_class), np.cumsum(sizes))
        for of_class, *sizes in zip(training, tests, validations, calibrations, strict=True)
    ]
    cut_test, validation, calibration, train = (
        generator.permutation(np.concatenate(part)) for part in zip(*pieces, strict=True)
    )
    return Cut(
        train=train,
        calibration=calibration,
        validation=validation,
        test=cut_test if test is None else generator.permutation(own_test),
        duplicates=len(labels) - len(rows),
        across=int((~is_test & is_test[originals]).sum()),
        contradicting=int((labels != labels[originals]).sum()),
    )


def check_disjoint(hashes_by_part: Mapping[str, Iterable[bytes]]) -> None:
    """Raise RuntimeError, since only a bug can cause it, if an image stands in two places."""
    owner: dict[bytes, str] = {}
    for part, hashes in hashes_by_part.items():
        for content in hashes:
            if content in owner:
                raise RuntimeError(f"an image stands in both {owner[content]} and {part}")
            owner[content] = part


def _first_of_each(hashes: list[bytes], order: list[int]) -> dict[bytes, int]:
    first: dict[bytes, int] = {}
    for row in order:
        first.setdefault(hashes[row], row)
    return first


def _share(counts: Rows, share: float, *, spare: int) -> Rows:
    """Return ``share`` of each class, at least one image, and leave ``spare`` of them."""
    rounded = np.floor(counts * share + 0.5).astype(np.int64)
    wanted: Rows = np.minimum(np.maximum(rounded, 1), counts - spare)
    return wanted


def _proportional(total: int, counts: Rows, room: Rows) -> Rows:
    """Split ``total`` over classes like ``counts``, by largest remainder, within ``room``."""
    total = min(total, int(room.sum()))
    exact = total * counts / counts.sum()
    given: Rows = np.minimum(np.floor(exact).astype(np.int64), room)
    for _ in range(total - int(given.sum())):
        given[np.argmax(np.where(given < room, exact - given, -np.inf))] += 1
    return given


def _check_counts(counts: Rows, fewest: int, part: str, classes: tuple[str, ...]) -> None:
    short = [
        f"{name!r} ({count})" for name, count in zip(classes, counts, strict=True) if count < fewest
    ]
    if short:
        raise DataError(
            f"Every class needs at least {fewest} different {part} images, too few have: "
            f"{some_of(short)}. Add images or remove these classes."
        )
