from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from exporter.config import DataConfig
from exporter.data import DATASETS, source_of
from exporter.data.folder import FOLDER


def test_digits_are_enlarged_and_replicated(tmp_path: Path) -> None:
    digits = source_of("digits").read(tmp_path, DataConfig())
    original = load_digits()
    assert digits.images.shape == (1797, 32, 32, 3)
    assert digits.images.dtype == np.uint8
    assert (digits.images.min(), digits.images.max()) == (0, 255)
    expected = np.round(original.images * 255 / 16)
    for row, column, channel in ((0, 0, 0), (3, 3, 2), (1, 2, 1)):
        np.testing.assert_array_equal(digits.images[:, row::4, column::4, channel], expected)


def test_digits_have_ten_classes_and_no_test_images(tmp_path: Path) -> None:
    digits = source_of("digits").read(tmp_path, DataConfig())
    assert digits.classes == tuple("0123456789")
    assert digits.labels.dtype == np.int64
    assert digits.labels[:10].tolist() == list(range(10))
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.test is None
    assert not digits.mirror_safe
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_name_is_a_folder() -> None:
    assert sorted(DATASETS) == ["cifar10", "digits"]
    assert source_of("./digits") is FOLDER
    assert source_of("Digits") is FOLDER
