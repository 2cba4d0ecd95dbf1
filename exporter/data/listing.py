"""What an image folder holds, found without opening a single image.

Two layouts are known. A folder with ``train/`` and one of ``test/``, ``val/``, ``valid/`` or
``validation/`` (the first of these that exists, in any case of letters) has its own test images.
Any other folder is one tree. Below that every folder is a class and everything under it, however
deep, belongs to the class. Hidden entries and files without an image suffix don't count.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter.data.decode import SUFFIXES
from exporter.data.source import some_of
from exporter.errors import DataError

TRAIN = "train"
TEST_NAMES = ("test", "val", "valid", "validation")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """A file's place below the root (with forward slashes) and what tells whether it changed."""

    path: str
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The images below one folder, by class, everything in sorted order."""

    folder: Path
    is_test: bool
    classes: Mapping[str, tuple[ImageFile, ...]]
    loose: int
    """Images that lie outside the class folders and are not used."""

    @property
    def count(self) -> int:
        """Number of images in class folders."""
        return sum(len(files) for files in self.classes.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """A whole image folder: one part, or training images followed by test images."""

    root: Path
    parts: tuple[Part, ...]
    left_out: tuple[str, ...]
    """Folders beside the parts that are not used."""

    def fingerprint(self) -> str:
        """Return a digest of all paths, sizes and modification times."""
        sha256 = hashlib.sha256()
        for part in self.parts:
            for name, files in part.classes.items():
                sha256.update(os.fsencode(f"{part.folder.name}/{name}/{part.is_test}\n"))
                for file in files:
                    sha256.update(os.fsencode(f"{file.path}\0{file.size_bytes}\0{file.mtime_ns}\n"))
        return sha256.hexdigest()


def list_folder(root: Path) -> Listing:
    """Return what ``root`` holds.

    Raises:
        DataError: the folder is missing, is a file or cannot be listed; there are fewer than two
            classes or no images; a class is empty or stands on one side of the split only.
    """
    try:
        mode = root.stat().st_mode
    except (FileNotFoundError, ValueError) as error:  # ValueError: a null byte in the name
        raise DataError(f"There is no folder {root}. Check --data.") from error
    except OSError as error:
        raise DataError(f"Cannot open {root}: {error.strerror}. Check --data.") from error
    if not stat.S_ISDIR(mode):
        raise DataError(f"{root} is a file. --data needs a folder with one folder per class.")
    folders = {name.lower(): name for name, mode in _entries(root) if stat.S_ISDIR(mode)}
    held_out = [folders[name] for name in TEST_NAMES if name in folders]
    if TRAIN in folders and held_out:
        parts: tuple[Part, ...] = (
            _list_part(root, root / folders[TRAIN], is_test=False),
            _list_part(root, root / held_out[0], is_test=True),
        )
        used = {folders[TRAIN], held_out[0]}
        left_out = tuple(sorted(name for name in folders.values() if name not in used))
    else:
        parts = (_list_part(root, root, is_test=False),)
        left_out = ()
    for part in parts:
        _check_part(part)
    _check_same_classes(parts)
    return Listing(root=root, parts=parts, left_out=left_out)


def _list_part(root: Path, folder: Path, *, is_test: bool) -> Part:
    classes: dict[str, tuple[ImageFile, ...]] = {}
    loose = 0
    for name, mode in _entries(folder):
        if stat.S_ISDIR(mode):
            classes[_utf8(name, folder)] = tuple(
                sorted(_images_below(root, folder / name), key=lambda file: file.path)
            )
        elif _is_image(name):
            loose += 1
    return Part(folder=folder, is_test=is_test, classes=classes, loose=loose)


def _images_below(root: Path, folder: Path) -> Iterator[ImageFile]:
    """Yield the images below a class folder.

    Links are followed, but each folder is entered once, and none leads back above the class.
    """
    pending, entered = [str(folder)], {_identity(root), _identity(folder.parent)}
    prefix = len(str(root)) + 1
    while pending:
        current = pending.pop()
        identity = _identity(Path(current))
        if identity in entered:
            continue
        entered.add(identity)
        for entry in _scan(current):
            found = _status(entry)
            if stat.S_ISDIR(found.st_mode):
                pending.append(entry.path)
            elif _is_image(entry.name) and stat.S_ISREG(found.st_mode):
                path = entry.path[prefix:].replace(os.sep, "/")
                yield ImageFile(path=path, size_bytes=found.st_size, mtime_ns=found.st_mtime_ns)


def _identity(folder: Path) -> tuple[int, int]:
    """What two paths to the same folder have in common."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _entries(folder: Path) -> list[tuple[str, int]]:
    return sorted((entry.name, _status(entry).st_mode) for entry in _scan(str(folder)))


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
            return sorted(visible, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"Cannot list {folder}: {error.strerror}.") from error


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    """The target's status; a broken link passes as an empty file, so that it gets reported."""
    try:
        return entry.stat()
    except OSError:
        return os.stat_result((stat.S_IFREG, 0, 0, 0, 0, 0, 0, 0, 0, 0))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _utf8(name: str, folder: Path) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"A class folder in {folder} has a name that is not UTF-8: {name!r}. Rename it."
        ) from error
    return name


def _check_part(part: Part) -> None:
    names = tuple(part.classes)
    if part.loose and not names:
        raise DataError(
            f"{part.folder} holds images but no class folders. Give each class a folder of its "
            f"own: {part.folder}/CLASS/IMAGE."
        )
    if not part.count:
        raise DataError(
            f"There are no images below {part.folder}. It needs one folder of images per class "
            f"({', '.join(SUFFIXES)})."
        )
    if len(names) < 2:
        raise DataError(
            f"{part.folder} has only the class {names[0]!r}. At least 2 classes are needed, each "
            "a folder of images. If they lie one level deeper, give that folder to --data."
        )
    empty = [name for name, files in part.classes.items() if not files]
    if empty:
        raise DataError(
            f"No images in {part.folder} for: {some_of(empty)}. Add images, or remove the folder."
        )


def _check_same_classes(parts: tuple[Part, ...]) -> None:
    for part in parts:
        for other in parts:
            missing = [name for name in part.classes if name not in other.classes]
            if missing:
                raise DataError(
                    f"{part.folder} and {other.folder} must hold the same classes; only in the "
                    f"first: {some_of(missing)}. Add or remove these folders."
                )
