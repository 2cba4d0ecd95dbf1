"""torchvision's own loader on a CIFAR-10 of 24 images; the network is never touched."""

from __future__ import annotations

import hashlib
import pickle
import sys
import urllib.error
from http.client import BadStatusLine
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from exporter.artifacts import Cache
from exporter.config import DataConfig
from exporter.data import source_of
from exporter.data.load import fingerprint, load_splits
from exporter.errors import DataError

BATCHES = [*(f"data_batch_{index}" for index in range(1, 6)), "test_batch"]
NAMES = ["plane", "car"]
SOURCE = source_of("cifar10")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """Write six batches of four images each, and tell torchvision their checksums."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for index, name in enumerate(BATCHES):
        pixels = np.random.default_rng(index).integers(0, 256, (4, 3072), dtype=np.uint8)
        content = pickle.dumps({"data": pixels, "labels": [0, 1, 0, 1]})
        (folder / name).write_bytes(content)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": NAMES}))
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[n, sums[n]] for n in BATCHES[:5]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return DataConfig(data="cifar10", data_root=str(tmp_path))


def folder_of(config: DataConfig) -> Path:
    return Path(config.data_root) / "cifar-10-batches-py"


def test_training_images_come_first_then_test_images(config: DataConfig, tmp_path: Path) -> None:
    cifar = SOURCE.read(tmp_path / "out", config)
    assert cifar.images.shape == (24, 32, 32, 3)
    assert cifar.images.dtype == np.uint8
    assert cifar.test is not None
    assert cifar.test.tolist() == [False] * 20 + [True] * 4
    assert cifar.labels.tolist() == [0, 1] * 12
    assert cifar.labels.dtype == np.int64
    assert cifar.classes == ("plane", "car")
    assert cifar.mirror_safe


def test_planes_of_colour_become_pixels(config: DataConfig, tmp_path: Path) -> None:
    with (folder_of(config) / "test_batch").open("rb") as file:
        stored = pickle.load(file)["data"]
    images = SOURCE.read(tmp_path / "out", config).images[20:]
    for channel, row, column in ((0, 0, 0), (1, 2, 3), (2, 31, 30)):
        place = channel * 1024 + row * 32 + column
        np.testing.assert_array_equal(images[:, row, column, channel], stored[:, place])


def test_loaded_into_four_parts_and_from_the_cache(config: DataConfig, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    splits = load_splits(cache, config)
    assert splits.test.count == 4
    stored = SOURCE.read(tmp_path / "out", config).images[20:]
    written = splits.test.arrays()[0]
    assert sorted(image.tobytes() for image in written) == sorted(
        image.tobytes() for image in stored
    )
    assert splits.train.count + splits.calibration.count + splits.validation.count == 20
    assert (splits.contract.height, splits.contract.width) == (32, 32)
    assert load_splits(cache, config) == splits
    assert [run.cached for run in cache.runs] == [False, True]


def test_asking_for_a_download_that_is_not_needed_changes_nothing(
    config: DataConfig, tmp_path: Path
) -> None:
    cache = Cache(tmp_path / "cache")
    load_splits(cache, config)
    load_splits(cache, DataConfig(data="cifar10", data_root=config.data_root, download=True))
    assert [run.cached for run in cache.runs] == [False, True]


@pytest.mark.parametrize("name", ["data_batch_3", "batches.meta"])
def test_a_missing_file_is_named_with_the_remedy(config: DataConfig, name: str) -> None:
    (folder_of(config) / name).unlink()
    with pytest.raises(DataError, match=rf"{name} is missing.*--download") as caught:
        fingerprint(config)
    assert str(folder_of(config)) in str(caught.value)


@pytest.mark.parametrize("name", ["data_batch_5", "test_batch", "batches.meta"])
def test_a_damaged_file_is_an_error_with_the_remedy(
    config: DataConfig, tmp_path: Path, name: str
) -> None:
    path = folder_of(config) / name
    before = fingerprint(config)
    path.write_bytes(path.read_bytes()[:-1])
    assert fingerprint(config) != before
    with pytest.raises(DataError, match=r"damaged.*--download"):
        SOURCE.read(tmp_path / "out", config)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (urllib.error.URLError("no route"), "no route"),
        (BadStatusLine("<html>\n<body>"), "<html> <body>"),
        (TimeoutError(), "TimeoutError"),
        (RuntimeError("File not found or corrupted."), "corrupted. Check"),
        (OSError(28, "No space left on device"), "No space"),
        (EOFError("ended before"), "ended before"),
    ],
)
def test_a_failed_download_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    with pytest.raises(DataError, match="could not be fetched") as caught:
        fingerprint(DataConfig(data="cifar10", data_root=str(tmp_path), download=True))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_download_is_used(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = folder_of(config)
    aside = fetched.rename(tmp_path / "aside")
    roots: list[Path] = []

    def fetch(url: str, root: Path, **kwargs: object) -> None:
        roots.append(Path(root))
        aside.rename(fetched)

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fetch)
    asking = DataConfig(data="cifar10", data_root=config.data_root, download=True)
    known = fingerprint(asking)
    assert roots == [tmp_path]
    assert known == fingerprint(config) == fingerprint(asking)
    assert len(roots) == 1


def test_without_torchvision_the_remedy_is_named(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(DataError, match="pip install torchvision"):
        SOURCE.read(tmp_path / "out", config)


def test_an_unknown_home_folder_is_an_error() -> None:
    with pytest.raises(DataError, match=r"--data-root.*~nobody-of-this-name"):
        fingerprint(DataConfig(data="cifar10", data_root="~nobody-of-this-name/data"))
