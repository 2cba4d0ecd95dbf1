"""Bundles as zip archives: written the same way every time, read with distrust.

A bundle is flat, so the only names an archive may hold are plain file names; that leaves no room
for paths that lead elsewhere. Links, folders, encryption, names that differ by case only, and
archives that would grow beyond any bundle are refused before a byte is unpacked.
"""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from pathlib import Path

from exporter.errors import BundleError
from exporter.packing.contents import MAX_BYTES, Contents, check_limits

MAX_RATIO = 200
"""Bytes that one byte of an archive may become. What bundles hold shrinks less than tenfold;
deflate reaches 1,032."""
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_PLAIN_FILE = stat.S_IFREG | 0o644
_ENCRYPTED = 1


def zip_of(contents: Contents) -> bytes:
    """Return an archive of the files: the same bytes for the same files, at any time.

    Stored, not deflated, since zlib's output differs between its versions.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.create_system = _UNIX  # the same on every system
            entry.external_attr = _PLAIN_FILE << 16
            file.writestr(entry, contents[name])
    return archive.getvalue()


def read_zip(path: Path) -> dict[str, bytes]:
    """Return the files in an archive, which are not yet compared with their manifest.

    Raises:
        BundleError: it is no zip file, is damaged, or holds what no bundle does.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BundleError(f"{path} has more than the limit of {MAX_BYTES:,} bytes.")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if min((entry.header_offset for entry in entries), default=0) != 0:
                # zipfile takes the end of an archive inside a cut one (golden.npz) for its end.
                raise zipfile.BadZipFile("it does not begin with its first file")
            _check_entries(path, entries)
            return {entry.filename: _read(path, archive, entry) for entry in entries}
    except OSError as error:
        raise BundleError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise BundleError(f"{path} is not a zip file, or it is cut or damaged: {error}.") from error


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not is_plain(entry.orig_filename):
            raise BundleError(f"{path} holds {entry.orig_filename!r}, which is no plain file name.")
        if kind not in (0, stat.S_IFREG):
            raise BundleError(f"{path} holds {entry.filename}, which is a link or no file at all.")
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in METHODS:
            raise BundleError(f"{path} holds {entry.filename} encrypted or packed in a rare way.")
    sizes = {entry.filename.casefold(): entry.file_size for entry in entries}
    if len(sizes) < len(entries):
        raise BundleError(f"{path} holds two files of one name.")
    check_limits(path, sizes)
    size = path.stat().st_size
    if sum(sizes.values()) > MAX_RATIO * size:
        raise BundleError(
            f"{path} would grow from {size:,} to {sum(sizes.values()):,} bytes, more than "
            f"{MAX_RATIO} times."
        )


def is_plain(name: str) -> bool:
    """Return whether a name stands for a file in the folder it is put into, on every system."""
    return (
        name.isprintable()
        and name.strip(". ") != ""
        and len(name) <= 255
        and not any(separator in name for separator in '/\\:*?"<>|')
    )


def _read(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(entry) as file:
            content = file.read(entry.file_size + 1)  # never more than the checked size
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BundleError(f"{path} is damaged: {entry.filename} cannot be read.") from error
    if len(content) != entry.file_size:
        raise BundleError(f"{path} is damaged: {entry.filename} is cut.")
    return content
