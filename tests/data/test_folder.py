"""Folders of images: their layouts, what is refused and how, and how sizes are settled."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from exporter.config import DataConfig
from exporter.data.folder import FOLDER
from exporter.data.listing import list_folder
from exporter.data.source import Dataset
from exporter.errors import DataError
from exporter.progress import Advance, Silent, shown_on
from tests.data.pictures import noise, save, save_class, save_tree

REAL_SCANDIR = os.scandir


class Heard(Silent):
    """Remembers what would be shown."""

    def __init__(self) -> None:
        self.text = ""
        self.done = 0.0

    def message(self, text: str) -> None:
        self.text += text + "\n"

    def task(self, description: str, total: float) -> AbstractContextManager[Advance]:
        return nullcontext(self.advance)

    def advance(self, amount: float, note: str) -> None:
        self.done += amount


def read(root: Path, scratch: Path, **changes: Any) -> tuple[Dataset, Heard]:
    scratch.mkdir(exist_ok=True)
    heard = Heard()
    with shown_on(heard):
        dataset = FOLDER.read(scratch, DataConfig(data=str(root), **changes))
    return dataset, heard


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "pets"


def known(root: Path) -> str:
    return FOLDER.fingerprint(DataConfig(data=str(root)))


def test_one_tree(root: Path, scratch: Path) -> None:
    save_tree(root, dog=2, cat=3)
    pets, heard = read(root, scratch)
    assert pets.name == "pets"
    assert pets.classes == ("cat", "dog")
    assert pets.labels.tolist() == [0, 0, 0, 1, 1]
    assert pets.test is None
    assert pets.unreadable == ()
    assert pets.images.dtype == np.uint8
    expected = [noise(1000), noise(1001), noise(1002), noise(0), noise(1)]
    np.testing.assert_array_equal(pets.images, expected)
    assert heard.done == 5


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "test"), ("train", "val"), ("Train", "VALID"), ("train", "validation")],
)
def test_two_parts(root: Path, scratch: Path, train: str, test: str) -> None:
    save_tree(root / train, cat=2, dog=1)
    save_tree(root / test, seed=5, cat=1, dog=2)
    pets, _ = read(root, scratch)
    assert pets.test is not None
    assert pets.test.tolist() == [False, False, False, True, True, True]
    assert pets.labels.tolist() == [0, 0, 1, 0, 1, 1]
    np.testing.assert_array_equal(pets.images[[2, 3]], [noise(1000), noise(5000)])


def test_test_wins_over_val_and_the_rest_is_named(root: Path, scratch: Path) -> None:
    for place, part in enumerate(("train", "test", "val", "spare")):
        save_tree(root / part, seed=10 * place, cat=1, dog=1)
    save(root / "train" / "loose.png", noise(9))
    pets, heard = read(root, scratch)
    assert len(pets.images) == 4
    np.testing.assert_array_equal(pets.images[2], noise(10_000))
    assert "spare, val" in heard.text
    assert "1 images" in heard.text


def test_train_may_be_a_class(root: Path, scratch: Path) -> None:
    pets, _ = read(save_tree(root, bus=1, train=2), scratch)
    assert pets.classes == ("bus", "train")
    assert pets.test is None


def test_only_visible_image_files_count_at_any_depth(root: Path, scratch: Path) -> None:
    save_tree(root, cat=1, dog=1)
    save(root / "cat" / "deep" / "er" / "1.PNG", noise(7))
    save(root / "cat" / ".hidden.png", noise(8))
    save(root / ".cache" / "0.png", noise(8))
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "cat" / "folder.png").mkdir()
    (root / "labels.csv").write_text("")
    pets, _ = read(root, scratch)
    assert pets.labels.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(pets.images[1], noise(7))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_modes_may_be_mixed(root: Path, scratch: Path, mode: str) -> None:
    save_tree(root, cat=1, dog=1)
    Image.fromarray(noise(3)).convert(mode).save(root / "dog" / "1.tif")
    pets, _ = read(root, scratch)
    assert pets.images.shape == (3, 8, 8, 3)
    assert pets.unreadable == ()


# Sizes


def test_a_common_size_is_kept(root: Path, scratch: Path) -> None:
    for name in ("cat", "dog"):
        save(root / name / "0.png", noise(len(name), 6, 10))
    pets, _ = read(root, scratch)
    assert pets.images.shape == (2, 6, 10, 3)


def test_rotation_counts_for_the_common_size(root: Path, scratch: Path) -> None:
    save(root / "cat" / "0.png", noise(1, 6, 10))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    (root / "dog").mkdir()
    Image.fromarray(noise(2, 10, 6)).save(root / "dog" / "0.png", exif=exif)
    pets, _ = read(root, scratch)
    assert pets.images.shape == (2, 6, 10, 3)
    np.testing.assert_array_equal(pets.images[1], np.rot90(noise(2, 10, 6), -1))


@pytest.mark.parametrize(("height", "width"), [(8, 9), (9, 8)])
def test_differing_sizes_become_64(root: Path, scratch: Path, height: int, width: int) -> None:
    save(save_tree(root, cat=1, dog=1) / "dog" / "1.png", noise(3, height, width))
    pets, heard = read(root, scratch)
    assert pets.images.shape == (3, 64, 64, 3)
    assert "--size" in heard.text


def test_a_common_size_beyond_the_limits_becomes_64(root: Path, scratch: Path) -> None:
    for name in ("cat", "dog"):
        save(root / name / "0.png", noise(len(name), 3, 8))
    pets, heard = read(root, scratch)
    assert pets.images.shape == (2, 64, 64, 3)
    assert "3x8" in heard.text


def test_the_size_asked_for_wins(root: Path, scratch: Path) -> None:
    pets, _ = read(save_tree(root, cat=1, dog=1), scratch, size="5x12")
    assert pets.images.shape == (2, 5, 12, 3)


def test_the_resize_rule_is_applied(root: Path, scratch: Path) -> None:
    halves = np.zeros((8, 16, 3), np.uint8)
    halves[:, 4:12] = 255
    for name in ("cat", "dog"):
        save(root / name / "0.png", halves)
    cropped, _ = read(root, scratch, size="8x8", resize="crop")
    assert cropped.images.min() == 255
    stretched, _ = read(root, scratch, size="8x8", resize="stretch")
    assert stretched.images[0, 0, 0, 0] == 0


def test_unreadable_files_do_not_decide_the_size(root: Path, scratch: Path) -> None:
    save_tree(root, cat=1, dog=1)
    (root / "cat" / "broken.png").write_bytes(b"text")
    pets, _ = read(root, scratch, max_unreadable=0.5)
    assert pets.images.shape == (2, 8, 8, 3)


# Unreadable files


def spoil(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.write_bytes(path.read_bytes()[:60])


def test_unreadable_files_are_listed_up_to_the_share(root: Path, scratch: Path) -> None:
    save_tree(root, cat=10, dog=10)
    spoil(root, "cat/0.png", "dog/9.png")
    pets, heard = read(root, scratch, max_unreadable=0.1)
    assert pets.unreadable == ("cat/0.png", "dog/9.png")
    assert pets.labels.tolist() == [0] * 9 + [1] * 9
    expected = [noise(index) for index in range(1, 10)] + [noise(1000 + i) for i in range(9)]
    np.testing.assert_array_equal(pets.images, expected)
    assert "cat/0.png, dog/9.png" in heard.text


def test_unreadable_files_are_refused_past_the_share(root: Path, scratch: Path) -> None:
    save_tree(root, cat=10, dog=10)
    spoil(root, "cat/0.png", "dog/9.png")
    with pytest.raises(DataError, match=r"2 of 20 .*10\.00%.*0\.09.*cat/0\.png, dog/9\.png"):
        read(root, scratch, max_unreadable=0.09)
    with pytest.raises(DataError, match=r"--max-unreadable 0\.01"):
        read(root, scratch)


def test_test_images_keep_their_place_when_files_are_left_out(root: Path, scratch: Path) -> None:
    save_tree(root / "train", cat=2, dog=2)
    save_tree(root / "test", seed=5, cat=2, dog=2)
    spoil(root, "train/cat/1.png", "test/dog/0.png")
    pets, _ = read(root, scratch, max_unreadable=0.5)
    assert pets.test is not None
    assert pets.test.tolist() == [False, False, False, True, True, True]
    assert pets.labels.tolist() == [0, 1, 1, 0, 0, 1]
    np.testing.assert_array_equal(pets.images[-1], noise(6001))


def test_nothing_readable(root: Path, scratch: Path) -> None:
    save_tree(root, cat=1, dog=1)
    spoil(root, "cat/0.png", "dog/0.png")
    with pytest.raises(DataError, match=r"2 of 2 .*cat/0\.png"):
        read(root, scratch)
    pets, _ = read(root, scratch, max_unreadable=1.0)
    assert (len(pets.images), len(pets.labels)) == (0, 0)


def test_broken_links_and_names_that_are_no_text_are_listed(root: Path, scratch: Path) -> None:
    save_tree(root, cat=1, dog=1)
    (root / "cat" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "cat" / "self.png").symlink_to("self.png")
    try:
        Path(os.fsdecode(bytes(root / "dog") + b"/\xff.png")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system only takes names that are UTF-8")
    pets, heard = read(root, scratch, max_unreadable=0.9)
    assert pets.unreadable == ("cat/gone.png", "cat/self.png", "dog/\\udcff.png")
    assert "dog/\\udcff.png" in heard.text
    assert len(pets.images) == 2


def test_many_files_over_several_tasks_keep_their_order(root: Path, scratch: Path) -> None:
    for index in range(150):
        save(root / "ab"[index % 2] / f"{index:03}.bmp", np.full((4, 4, 3), index, np.uint8))
    pets, heard = read(root, scratch)
    assert pets.images[:, 0, 0, 0].tolist() == [*range(0, 150, 2), *range(1, 150, 2)]
    assert heard.done == 150


# Links


def test_links_are_followed_and_loops_end(root: Path, scratch: Path, tmp_path: Path) -> None:
    save_tree(root, cat=1, dog=1)
    save_class(tmp_path / "elsewhere", 2, 7)
    (root / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "again").symlink_to(tmp_path / "elsewhere")
    (root / "cat" / "itself").symlink_to(root / "cat")
    (root / "fox").symlink_to(tmp_path / "elsewhere")
    pets, _ = read(root, scratch)
    assert pets.classes == ("cat", "dog", "fox")
    assert pets.labels.tolist() == [0, 0, 0, 1, 2, 2]


def test_the_file_systems_order_does_not_matter(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tree(root, cat=2, dog=1)
    save_class(tmp_path / "elsewhere", 2, 7)
    for name in ("one", "two"):  # the files are reached by one of two paths
        (root / "cat" / name).symlink_to(tmp_path / "elsewhere")
    prints = set()
    for step in (1, -1):

        def scan(path: str, step: int = step) -> AbstractContextManager[list[os.DirEntry[str]]]:
            return nullcontext(sorted(REAL_SCANDIR(path), key=lambda entry: entry.name)[::step])

        monkeypatch.setattr(os, "scandir", scan)
        prints.add(known(root))
    assert len(prints) == 1


@pytest.mark.parametrize("parts", [False, True])
def test_a_link_to_above_brings_in_no_other_class(root: Path, scratch: Path, parts: bool) -> None:
    for part in ("train", "test") if parts else (".",):
        save_tree(root / part, cat=1, dog=1)
        (root / part / "cat" / "up").symlink_to(root)
        (root / part / "cat" / "part").symlink_to(root / part)
    pets, _ = read(root, scratch)
    assert pets.labels.tolist() == ([0, 1, 0, 1] if parts else [0, 1])


# What is refused


def empty_folder(root: Path) -> None:
    root.mkdir()


def loose_images(root: Path) -> None:
    save_class(root, 2, 0)


def one_class(root: Path) -> None:
    save_tree(root, cat=3)


def one_class_in_test(root: Path) -> None:
    save_tree(root / "train", cat=1, dog=1)
    save_tree(root / "test", cat=1)


def empty_class(root: Path) -> None:
    save_tree(root, cat=1, dog=1)
    (root / "emu").mkdir()
    (root / "fox" / "deep").mkdir(parents=True)


def empty_class_in_test(root: Path) -> None:
    save_tree(root / "train", cat=1, dog=1, emu=1)
    save_tree(root / "test", cat=1, dog=1)
    (root / "test" / "emu").mkdir()


def missing_in_test(root: Path) -> None:
    save_tree(root / "train", cat=1, dog=1, emu=1, fox=1)
    save_tree(root / "test", cat=1, dog=1)


def missing_in_train(root: Path) -> None:
    save_tree(root / "train", cat=1, dog=1)
    save_tree(root / "val", cat=1, dog=1, gnu=1)


def empty_test(root: Path) -> None:
    save_tree(root / "train", cat=1, dog=1)
    (root / "test").mkdir()


def train_alone(root: Path) -> None:
    save_tree(root / "train", cat=1, dog=1)


def a_file(root: Path) -> None:
    root.write_bytes(b"")


def looping_link(root: Path) -> None:
    root.symlink_to(root.name)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda root: None, r"no folder .*pets"),
        (a_file, r"pets is a file"),
        (looping_link, r"Cannot open .*pets"),
        (empty_folder, r"no images below .*pets\."),
        (loose_images, r"pets holds images but no class folders"),
        (one_class, r"pets has only the class 'cat'.* 2 classes"),
        (one_class_in_test, r"test has only the class 'cat'"),
        (empty_class, r"No images in .*pets for: emu, fox\."),
        (empty_class_in_test, r"No images in .*test for: emu\."),
        (missing_in_test, r"train and .*test must hold the same.*: emu, fox\."),
        (missing_in_train, r"val and .*train must hold the same.*: gnu\."),
        (empty_test, r"no images below .*test\."),
        (train_alone, r"pets has only the class 'train'.*one level deeper"),
    ],
)
def test_unusable_folders(root: Path, build: Callable[[Path], None], message: str) -> None:
    build(root)
    with pytest.raises(DataError, match=message) as caught:
        known(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", ["", "  "])
def test_an_empty_name(data: str) -> None:
    with pytest.raises(DataError, match="--data is empty"):
        FOLDER.fingerprint(DataConfig(data=data))


@pytest.mark.parametrize("data", ["~nobody-of-this-name/a", "x" * 300, "a\0b"])
def test_names_that_no_folder_can_have(data: str) -> None:
    with pytest.raises(DataError, match="--data"):
        FOLDER.fingerprint(DataConfig(data=data))


def test_home_is_expanded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tree(root, cat=1, dog=1)
    monkeypatch.setenv("HOME", str(root.parent))
    assert FOLDER.fingerprint(DataConfig(data="~/pets")) == known(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_without_permission(root: Path) -> None:
    save_tree(root, cat=1, dog=1)
    (root / "cat").chmod(0)
    try:
        with pytest.raises(DataError, match=r"Cannot list .*cat"):
            known(root)
    finally:
        (root / "cat").chmod(0o700)


def test_a_class_name_that_is_no_text(root: Path) -> None:
    save_tree(root, cat=1, dog=1)
    try:
        Path(os.fsdecode(bytes(root) + b"/\xff")).mkdir()
    except OSError:
        pytest.skip("this file system only takes names that are UTF-8")
    with pytest.raises(DataError, match="not UTF-8"):
        known(root)


# Fingerprint


def test_the_fingerprint_does_not_depend_on_where_the_folder_is(root: Path, tmp_path: Path) -> None:
    before = known(save_tree(root, cat=2, dog=2))
    (tmp_path / "elsewhere").mkdir()
    assert known(root.rename(tmp_path / "elsewhere" / "pets")) == before


def touch(root: Path) -> None:
    os.utime(root / "cat" / "0.png", ns=(1, 1))


def grow(root: Path) -> None:
    path = root / "cat" / "0.png"
    times = path.stat()
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def rename(root: Path) -> None:
    (root / "cat" / "0.png").rename(root / "cat" / "00.png")


def move(root: Path) -> None:
    (root / "cat" / "1.png").rename(root / "dog" / "1.png")


def remove(root: Path) -> None:
    (root / "cat" / "1.png").unlink()


@pytest.mark.parametrize("change", [touch, grow, rename, move, remove])
def test_the_fingerprint_changes_with_the_files(root: Path, change: Callable[[Path], None]) -> None:
    save_tree(root, cat=2, dog=1)
    before = known(root)
    assert known(root) == before
    change(root)
    assert known(root) != before


def test_other_files_do_not_change_the_fingerprint(root: Path) -> None:
    before = known(save_tree(root, cat=1, dog=1))
    (root / "cat" / "notes.txt").write_text("new")
    (root / "cat" / ".hidden.png").write_bytes(b"")
    assert known(root) == before


def test_listing_is_sorted(root: Path) -> None:
    for name in ("b/2", "b/10", "a/z/0", "a/B", "a/a"):
        save(root / f"{name}.png", noise(1))
    (part,) = list_folder(root).parts
    files = [file.path for of_class in part.classes.values() for file in of_class]
    assert files == ["a/B.png", "a/a.png", "a/z/0.png", "b/10.png", "b/2.png"]
    assert list(part.classes) == ["a", "b"]
