"""The whole stage: from a folder to four parts on disk, through the cache."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.artifacts import Cache
from exporter.config import DataConfig
from exporter.data import load as loading
from exporter.data.cut import Cut, content_hashes, cut_parts
from exporter.data.load import fingerprint, load, load_splits
from exporter.data.splits import Split, Splits
from exporter.errors import CacheError, ConfigError, DataError, OutputError
from exporter.progress import Silent, shown_on
from tests.data.pictures import noise, save, save_tree

CONFIG = DataConfig(calibration_images=8, validation_share=0.1, split_seed=1)


class Heard(Silent):
    def __init__(self) -> None:
        self.text = ""

    def message(self, text: str) -> None:
        self.text += text + "\n"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return save_tree(tmp_path / "pets", cat=20, dog=30)


def config_for(root: Path, **changes: Any) -> DataConfig:
    return dataclasses.replace(CONFIG, data=str(root), **changes)


def parts_of(splits: Splits) -> tuple[Split, ...]:
    return (splits.train, splits.calibration, splits.validation, splits.test)


def bytes_of(splits: Splits) -> list[bytes]:
    return [
        file.path.read_bytes() for part in parts_of(splits) for file in (part.images, part.labels)
    ]


def cached(cache: Cache) -> list[bool]:
    return [run.cached for run in cache.runs]


def test_four_parts_on_disk(cache: Cache, root: Path) -> None:
    splits = load_splits(cache, config_for(root))
    # test: a fifth of 20 and 30; then a tenth of 16 and 24
    assert [part.count for part in parts_of(splits)] == [28, 8, 4, 10]
    assert splits.source == "pets"
    assert splits.unreadable == ()
    assert splits.duplicates == 0
    for part in parts_of(splits):
        images, labels = part.arrays()
        assert images.dtype == np.uint8
        assert images.shape == (part.count, 8, 8, 3)
        assert labels.dtype == np.int64
        assert labels.shape == (part.count,)
    assert np.bincount(splits.test.arrays()[1]).tolist() == [4, 6]


def test_the_contract_says_what_the_network_will_see(cache: Cache, root: Path) -> None:
    contract = load_splits(cache, config_for(root, size="6x9", resize="stretch")).contract
    assert (contract.height, contract.width, contract.channels) == (6, 9, 3)
    assert contract.resize == "stretch"
    assert contract.classes == ("cat", "dog")


def test_images_keep_their_labels(cache: Cache, root: Path) -> None:
    label_of = {noise(index).tobytes(): 0 for index in range(20)}
    label_of |= {noise(1000 + index).tobytes(): 1 for index in range(30)}
    seen = []
    for part in parts_of(load_splits(cache, config_for(root))):
        for image, label in zip(*part.arrays(), strict=True):
            assert label_of[image.tobytes()] == label
            seen.append(image.tobytes())
    assert sorted(seen) == sorted(label_of)


def test_only_the_parts_are_left_in_the_cache(cache: Cache, root: Path) -> None:
    folder = load_splits(cache, config_for(root)).train.images.path.parent
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".npy") == sorted(
        f"{part}-{kind}.npy"
        for part in ("train", "calibration", "validation", "test")
        for kind in ("images", "labels")
    )


def test_writing_block_by_block_changes_nothing(
    cache: Cache, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bytes_of(load_splits(cache, config_for(root)))
    monkeypatch.setattr(loading, "IMAGES_PER_WRITE", 3)
    assert bytes_of(load_splits(Cache(tmp_path / "second"), config_for(root))) == whole


def test_the_same_seed_gives_the_same_bytes(cache: Cache, root: Path, tmp_path: Path) -> None:
    first = load_splits(cache, config_for(root))
    again = load_splits(Cache(tmp_path / "second"), config_for(root))
    assert bytes_of(again) == bytes_of(first)
    other = load_splits(cache, config_for(root, split_seed=2))
    assert sorted(content_hashes(other.test.arrays()[0])) != sorted(
        content_hashes(first.test.arrays()[0])
    )


def test_the_second_load_decodes_nothing(
    cache: Cache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_splits(cache, config_for(root))
    monkeypatch.setattr("PIL.Image.open", None)
    assert load_splits(cache, config_for(root)) == first
    assert cached(cache) == [False, True]


def test_a_changed_file_is_a_miss(cache: Cache, root: Path) -> None:
    first = load_splits(cache, config_for(root))
    save(root / "cat" / "3.png", noise(77))
    second = load_splits(cache, config_for(root))
    assert cached(cache) == [False, False]
    hashes = [{*content_hashes(part.arrays()[0])} for part in parts_of(second)]
    assert content_hashes(noise(77)[np.newaxis])[0] in set.union(*hashes)
    assert first != second


def test_a_touched_file_is_a_miss_with_the_same_content(cache: Cache, root: Path) -> None:
    first = load_splits(cache, config_for(root))
    os.utime(root / "cat" / "3.png", ns=(1, 1))
    assert bytes_of(load_splits(cache, config_for(root))) == bytes_of(first)
    assert cached(cache) == [False, False]


@pytest.mark.parametrize(
    "changes",
    [
        {"size": "9x9"},
        {"resize": "stretch"},
        {"test_share": 0.3},
        {"validation_share": 0.2},
        {"calibration_images": 9},
        {"max_unreadable": 0.5},
    ],
)
def test_another_config_is_a_miss(cache: Cache, root: Path, changes: dict[str, Any]) -> None:
    load_splits(cache, config_for(root))
    load_splits(cache, config_for(root, **changes))
    assert cached(cache) == [False, False]


def test_a_damaged_cache_is_an_error(cache: Cache, root: Path) -> None:
    splits = load_splits(cache, config_for(root))
    path = splits.train.images.path
    path.write_bytes(path.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(CacheError, match="train-images"):
        load_splits(cache, config_for(root))


def test_parts_are_disjoint_and_duplicates_reported(cache: Cache, tmp_path: Path) -> None:
    root = tmp_path / "pets"
    save_tree(root / "train", cat=20, dog=20)
    save_tree(root / "test", seed=5, cat=5, dog=5)
    save(root / "train" / "cat" / "same.png", noise(3))  # within training
    save(root / "train" / "cat" / "seen.bmp", noise(5000))  # in test, as another format
    save(root / "train" / "cat" / "dog.png", noise(6000))  # in test, with another label
    save(root / "test" / "dog" / "again.png", noise(6001))  # within test
    heard = Heard()
    with shown_on(heard):
        splits = load_splits(cache, config_for(root))
    assert splits.duplicates == 4
    assert heard.text.count("4 duplicate images") == 1
    assert "2 training images equal a test image" in heard.text
    assert "1 had another label" in heard.text
    hashes = [content_hashes(part.arrays()[0]) for part in parts_of(splits)]
    together = [content for of_part in hashes for content in of_part]
    assert len(together) == len(set(together)) == 50
    own = [noise(seed + index) for seed in (5000, 6000) for index in range(5)]
    assert sorted(hashes[3]) == sorted(content_hashes(np.stack(own)))


def test_images_that_become_equal_by_resizing_are_duplicates(cache: Cache, root: Path) -> None:
    save(root / "cat" / "large.png", noise(4).repeat(2, axis=0).repeat(2, axis=1))
    for value, name in ((10, "x"), (10, "y")):
        side = 20 if name == "x" else 30
        save(root / "cat" / f"{name}.png", np.full((side, side, 3), value, np.uint8))
    assert load_splits(cache, config_for(root, size="8x8")).duplicates == 1


def test_parts_that_overlap_are_never_written_unnoticed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*args: Any) -> Cut:
        cut = cut_parts(*args)
        return dataclasses.replace(cut, train=np.append(cut.train, cut.test[:1]))

    monkeypatch.setattr(loading, "cut_parts", wrong)
    with pytest.raises(RuntimeError, match="both"):
        load(tmp_path, config_for(root), "")


def test_unreadable_files_are_part_of_the_result(cache: Cache, root: Path) -> None:
    (root / "dog" / "bad.png").write_bytes(b"text")
    splits = load_splits(cache, config_for(root, max_unreadable=0.02))
    assert splits.unreadable == ("dog/bad.png",)
    assert sum(part.count for part in parts_of(splits)) == 50
    assert load_splits(cache, config_for(root, max_unreadable=0.02)).unreadable == ("dog/bad.png",)
    with pytest.raises(DataError, match=r"1 of 51.*dog/bad\.png"):
        load_splits(cache, config_for(root, max_unreadable=0.019))


def test_a_class_that_is_unreadable_as_a_whole_is_named(cache: Cache, root: Path) -> None:
    (root / "emu").mkdir()
    (root / "emu" / "0.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"'emu' \(0\)"):
        load_splits(cache, config_for(root, max_unreadable=0.5))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_an_error_before_images_are_decoded(
    cache: Cache, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def full(descriptor: int, start: int, size: int) -> None:
        asked.append(size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr("exporter.data.folder.decode", None)
    with pytest.raises(OutputError, match=r"No space left.*Free some space"):
        load_splits(cache, config_for(root))
    assert asked == [50 * 8 * 8 * 3 + 128]  # the images and the header of the .npy file


def test_a_failed_load_leaves_no_result(cache: Cache, root: Path) -> None:
    (root / "dog" / "bad.png").write_bytes(b"text")
    with pytest.raises(DataError):
        load_splits(cache, config_for(root, max_unreadable=0.0))
    (root / "dog" / "bad.png").unlink()
    load_splits(cache, config_for(root, max_unreadable=0.0))
    assert cached(cache) == [False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "32"}, r"--size is '32'.*HEIGHTxWIDTH"),
        ({"size": "8x"}, "HEIGHTxWIDTH"),
        ({"size": "-8x8"}, "HEIGHTxWIDTH"),
        ({"size": "3x8"}, r"3x8.*between 4 and 1024"),
        ({"size": "8x1025"}, r"8x1025.*between 4 and 1024"),
        ({"test_share": 0.95}, r"--test-share is 0\.95.*0\.9"),
        ({"validation_share": 0.0}, r"--validation-share is 0\.0"),
        ({"calibration_images": 7}, r"--calibration-images is 7.*8"),
        ({"max_unreadable": 1.5}, r"--max-unreadable is 1\.5"),
        ({"split_seed": -1}, r"--split-seed is -1"),
    ],
)
def test_values_out_of_range_are_refused_before_any_work(
    cache: Cache, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_splits(cache, config_for(tmp_path / "nowhere", **changes))
    assert not cache.root.exists()


@pytest.mark.parametrize(("size", "shape"), [("4x1024", (4, 1024)), (" 5X7 ", (5, 7))])
def test_sizes_at_the_limits(cache: Cache, root: Path, size: str, shape: tuple[int, int]) -> None:
    contract = load_splits(cache, config_for(root, size=size)).contract
    assert (contract.height, contract.width) == shape


def test_digits(cache: Cache) -> None:
    splits = load_splits(cache, DataConfig())
    assert splits.source == "digits"
    assert splits.contract.classes == tuple("0123456789")
    assert (splits.contract.height, splits.contract.width) == (32, 32)
    assert not splits.mirror_safe
    total = sum(part.count for part in parts_of(splits))
    assert total + splits.duplicates == 1797
    assert splits.test.count == pytest.approx(0.2 * total, abs=5)
    assert splits.calibration.count == int(0.25 * (total - splits.test.count))
    for part in parts_of(splits):
        assert np.bincount(part.arrays()[1], minlength=10).min() >= 1


def test_arrays_are_resized_like_files(cache: Cache) -> None:
    splits = load_splits(cache, DataConfig(size="8x8"))
    assert splits.test.arrays()[0].shape[1:] == (8, 8, 3)
    # Every pixel was a square of 4 x 4 equal ones; its centre keeps most of the value.
    whole = load_splits(cache, DataConfig()).test.arrays()[0]
    assert splits.test.arrays()[0].mean() == pytest.approx(whole.mean(), rel=0.02)


def test_the_fingerprint_is_a_stranger_to_the_splits_shares(root: Path) -> None:
    assert fingerprint(config_for(root)) == fingerprint(config_for(root, test_share=0.5))
    assert fingerprint(config_for(root)) != fingerprint(DataConfig())
