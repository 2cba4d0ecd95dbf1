"""What a bundle holds, checked against its manifest.

A bundle is a flat folder: the manifest lists every other file with its size and sha256. Its
signature, if there is one, signs the manifest and stands beside it. Nothing else may be there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import BundleError

FORMAT_VERSION = 1
"""Of the manifest; ``deploy/run.py`` reads this version and no other."""
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
MAX_FILES = 100
MAX_BYTES = 2**30
"""Of all files together; twice what one ONNX file may have."""

Contents = Mapping[str, bytes]
"""Files of a bundle by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One file as the manifest describes it."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The part of a manifest by which a bundle is checked."""

    format_version: int
    model: str
    target: str
    files: Mapping[str, FileEntry]
    file: str = "model.onnx"
    """What a device loads."""

    @property
    def model_sha256(self) -> str:
        """Digest of what a device loads."""
        return self.files[self.file].sha256


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a bundle's folder, which nothing was checked of but their size.

    Raises:
        BundleError: it is no folder of a bundle, holds other folders or is too large.
    """
    try:
        if not (folder / MANIFEST).is_file():
            raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}.")
        paths = sorted(folder.iterdir())
        strange = [path.name for path in paths if not path.is_file()]
        if strange:
            raise BundleError(f"{folder} is damaged: {', '.join(strange)} is not part of it.")
        check_limits(folder, {path.name: path.stat().st_size for path in paths})
        return {path.name: path.read_bytes() for path in paths}
    except OSError as error:
        raise BundleError(f"Cannot read {error.filename}: {error.strerror}.") from error


def check_limits(source: Path, sizes: Mapping[str, int]) -> None:
    """Raise BundleError if there are more files or bytes than any bundle has."""
    if len(sizes) > MAX_FILES:
        raise BundleError(f"{source} has {len(sizes)} files, more than the limit of {MAX_FILES}.")
    if sum(sizes.values()) > MAX_BYTES:
        raise BundleError(
            f"{source} holds {sum(sizes.values()):,} bytes, more than the limit of {MAX_BYTES:,}."
        )


def check_contents(source: Path, contents: Contents) -> Manifest:
    """Return the manifest after comparing every file with it.

    Raises:
        BundleError: files have changed, are cut, missing or not listed; all of them are named.
    """
    manifest = _read_manifest(source, contents)
    faults = [
        fault
        for name, entry in sorted(manifest.files.items())
        if (fault := _fault(name, entry, contents.get(name)))
    ]
    known = {MANIFEST, SIGNATURE, *manifest.files}
    faults += [f"{name} is not part of it" for name in sorted(contents.keys() - known)]
    if faults:
        raise BundleError(f"{source} is damaged: {'; '.join(faults)}.")
    return manifest


def _read_manifest(source: Path, contents: Contents) -> Manifest:
    from pydantic import TypeAdapter, ValidationError

    if MANIFEST not in contents:
        raise BundleError(f"{source} is not a bundle: it has no {MANIFEST}.")
    try:
        manifest = TypeAdapter(Manifest).validate_json(contents[MANIFEST], strict=True)
    except ValidationError as error:
        raise BundleError(f"{source} is damaged: {MANIFEST} cannot be read.") from error
    if manifest.format_version != FORMAT_VERSION:
        raise BundleError(
            f"{source} has a manifest of format {manifest.format_version}, this program reads "
            f"{FORMAT_VERSION}. Use the version that made the bundle."
        )
    if manifest.file not in manifest.files:
        raise BundleError(f"{source} is damaged: {MANIFEST} does not list {manifest.file}.")
    return manifest


def _fault(name: str, entry: FileEntry, content: bytes | None) -> str:
    if content is None:
        return f"{name} is missing"
    if len(content) != entry.bytes:
        return f"{name} has {len(content)} bytes instead of {entry.bytes}"
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        return f"{name} has changed"
    return ""
