"""The cut into four parts: disjoint, stratified, seeded."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.config import DataConfig
from exporter.data.cut import Cut, check_disjoint, content_hashes, cut_parts
from exporter.errors import DataError
from tests.data.pictures import noise

PARTS = ("train", "calibration", "validation", "test")
CONFIG = DataConfig(
    test_share=0.2, validation_share=0.1, calibration_images=40, max_unreadable=0.0, split_seed=3
)


def distinct(count: int) -> list[bytes]:
    return [index.to_bytes(4, "big") for index in range(count)]


def labelled(*counts: int) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def cut_of(
    labels: NDArray[np.int64],
    hashes: list[bytes] | None = None,
    test: NDArray[np.bool_] | None = None,
    **changes: Any,
) -> Cut:
    classes = tuple("abcdefgh"[: int(labels.max()) + 1])
    config = dataclasses.replace(CONFIG, **changes)
    return cut_parts(hashes or distinct(len(labels)), labels, test, classes, config)


def rows_of(cut: Cut) -> dict[str, list[int]]:
    return {part: getattr(cut, part).tolist() for part in PARTS}


def counts_of(cut: Cut, labels: NDArray[np.int64], part: str) -> list[int]:
    rows: NDArray[np.int64] = getattr(cut, part)
    return list(np.bincount(labels[rows], minlength=int(labels.max()) + 1))


def test_every_row_lands_in_exactly_one_part() -> None:
    cut = cut_of(labelled(100, 60))
    assert sorted(itertools.chain(*rows_of(cut).values())) == list(range(160))
    assert (cut.duplicates, cut.across, cut.contradicting) == (0, 0, 0)


def test_shares_hold_in_every_class() -> None:
    labels = labelled(100, 300, 200)
    cut = cut_of(labels, calibration_images=48)
    assert counts_of(cut, labels, "test") == [20, 60, 40]
    assert counts_of(cut, labels, "validation") == [8, 24, 16]
    assert counts_of(cut, labels, "calibration") == [8, 24, 16]
    assert counts_of(cut, labels, "train") == [64, 192, 128]


def test_the_datasets_own_test_images_stay_the_test_part() -> None:
    labels = np.concatenate([labelled(100, 100), labelled(7, 5)])
    test = np.arange(212) >= 200
    cut = cut_of(labels, test=test)
    assert sorted(cut.test) == list(range(200, 212))
    assert counts_of(cut, labels, "validation") == [10, 10]
    assert not test[np.concatenate([cut.train, cut.calibration, cut.validation])].any()


def test_calibration_takes_at_most_a_quarter_of_the_training_images() -> None:
    labels = labelled(100, 100)
    assert len(cut_of(labels, calibration_images=40).calibration) == 40
    assert len(cut_of(labels, calibration_images=41).calibration) == 40  # 160 for training


@pytest.mark.parametrize("counts", [(4, 4), (4, 1000), (5, 9, 400), (4, 6, 7, 90)])
def test_the_smallest_class_still_gets_into_every_part_that_steers(counts: tuple[int, ...]) -> None:
    labels = labelled(*counts)
    cut = cut_of(labels, calibration_images=8)
    for part in ("train", "validation", "test"):
        assert min(counts_of(cut, labels, part)) >= 1
    assert 1 <= len(cut.calibration) <= 8


def test_large_shares_leave_something_to_train_on() -> None:
    labels = labelled(10, 10)
    cut = cut_of(labels, test_share=0.9, validation_share=0.5)
    assert counts_of(cut, labels, "test") == [7, 7]
    assert counts_of(cut, labels, "validation") == [1, 1]
    assert sorted(counts_of(cut, labels, "train")) == [1, 2]
    assert len(cut.calibration) == 1


def test_the_seed_alone_decides() -> None:
    labels = labelled(50, 50)
    again = rows_of(cut_of(labels))
    assert rows_of(cut_of(labels)) == again
    other = rows_of(cut_of(labels, split_seed=4))
    for part in PARTS:
        assert other[part] != again[part]
        assert sorted(other[part]) != sorted(again[part])


def test_rows_of_a_part_are_mixed() -> None:
    labels = labelled(100, 100)
    cut = cut_of(labels)
    for part in ("train", "test"):
        half = len(getattr(cut, part)) // 2
        first_half = labels[getattr(cut, part)[:half]].mean()
        assert 0.2 < first_half < 0.8


def test_duplicates_in_training_are_kept_once() -> None:
    hashes = distinct(20)
    hashes[7] = hashes[8] = hashes[2]  # within class a
    labels = labelled(10, 10)
    cut = cut_of(labels, hashes)
    used = set(itertools.chain(*rows_of(cut).values()))
    assert used == set(range(20)) - {7, 8}
    assert (cut.duplicates, cut.across, cut.contradicting) == (2, 0, 0)


def test_a_training_image_that_equals_a_test_image_goes() -> None:
    labels = np.concatenate([labelled(10, 10), labelled(3, 3)])
    hashes = distinct(26)
    hashes[4] = hashes[21]  # training a, test a
    hashes[15] = hashes[20]  # training b, test a
    hashes[25] = hashes[23]  # test b, twice
    cut = cut_of(labels, hashes, test=np.arange(26) >= 20)
    used = set(itertools.chain(*rows_of(cut).values()))
    assert used == set(range(26)) - {4, 15, 25}
    assert sorted(cut.test) == [20, 21, 22, 23, 24]
    assert (cut.duplicates, cut.across, cut.contradicting) == (3, 2, 1)


def test_equal_images_with_two_labels_are_counted() -> None:
    hashes = distinct(20)
    hashes[12] = hashes[3]
    cut = cut_of(labelled(10, 10), hashes)
    assert (cut.duplicates, cut.across, cut.contradicting) == (1, 0, 1)
    assert 12 not in itertools.chain(*rows_of(cut).values())


def test_too_few_images_name_the_classes_and_their_counts() -> None:
    assert len(cut_of(labelled(4, 4)).test) == 2
    with pytest.raises(DataError, match=r"at least 4 different training .*'b' \(3\)\. ") as caught:
        cut_of(labelled(4, 3, 9))
    assert "'a'" not in str(caught.value)
    assert "'c'" not in str(caught.value)


def test_duplicates_do_not_count_as_images() -> None:
    hashes = distinct(8)
    hashes[7] = hashes[6]
    with pytest.raises(DataError, match=r"'b' \(3\)"):
        cut_of(labelled(4, 4), hashes)


def test_fewer_images_are_needed_where_test_images_exist() -> None:
    labels = np.concatenate([labelled(3, 3), labelled(1, 1)])
    cut = cut_of(labels, test=np.arange(8) >= 6)
    assert [len(rows) for rows in rows_of(cut).values()] == [3, 1, 2, 2]
    with pytest.raises(DataError, match=r"at least 3 different training .*'b' \(2\)"):
        cut_of(labels[np.arange(8) != 5], test=np.arange(7) >= 5)


def test_a_class_without_test_images_is_named() -> None:
    labels = np.concatenate([labelled(9, 9), labelled(2)])
    with pytest.raises(DataError, match=r"at least 1 different test .*'b' \(0\)"):
        cut_of(labels, test=np.arange(20) >= 18)


def test_no_images_at_all() -> None:
    nothing = np.zeros(0, np.int64)
    with pytest.raises(DataError, match=r"'a' \(0\), 'b' \(0\)"):
        cut_parts([], nothing, None, ("a", "b"), CONFIG)


def test_long_lists_of_classes_are_cut_short() -> None:
    with pytest.raises(DataError, match=r"'e' \(1\) and 3 more\. "):
        cut_of(labelled(*[1] * 8))


def test_hashes_tell_images_apart() -> None:
    images = np.stack([noise(1), noise(2), noise(1)])
    first, second, third = content_hashes(images)
    assert first == third != second
    images[2, -1, -1, -1] ^= 1
    assert content_hashes(images)[2] != first
    assert content_hashes(images[:, :, ::-1])[1] == content_hashes(images[:, :, ::-1].copy())[1]


def test_an_image_in_two_places_is_a_bug() -> None:
    check_disjoint({"train": distinct(3), "test": [b"x"]})
    with pytest.raises(RuntimeError, match="both train and test"):
        check_disjoint({"train": distinct(3), "test": distinct(1)})
    with pytest.raises(RuntimeError, match="both train and train"):
        check_disjoint({"train": [b"x", b"x"]})
