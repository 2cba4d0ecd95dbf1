"""Bundles in and out of one file, and the check of either form."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from exporter.artifacts import Artifact
from exporter.errors import BundleError, OutputError
from exporter.packing.archive import read_zip, zip_of
from exporter.packing.contents import (
    SIGNATURE,
    Contents,
    Manifest,
    check_contents,
    read_folder,
)
from exporter.packing.place import place, write_file

Signed = Literal["no", "yes, not checked", "yes, by this key"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What was found out about a bundle's files."""

    passed: bool
    fault: str | None
    """What is wrong, in one line; None if nothing is."""
    model: str | None
    target: str | None
    model_sha256: str | None
    signed: Signed | None
    """The four are None where something is wrong."""


def pack(bundle: Path, out: Path, key: Path | None = None) -> Artifact:
    """Write a bundle as one zip file; the same bundle and key give the same bytes.

    Args:
        bundle: the bundle's folder; every file is checked first.
        out: the archive, replaced as a whole if it exists.
        key: an ed25519 private key in PEM to sign the bundle with. Without one, a signature that
            the folder has is kept.

    Raises:
        BundleError: the folder is no bundle or damaged.
        ConfigError: the key cannot be used.
        OutputError: the archive cannot be written, or would lie in the bundle.
    """
    if out.resolve().parent == bundle.resolve():
        raise OutputError(f"{out} would change the bundle; choose another folder.")
    contents = read_folder(bundle)
    check_contents(bundle, contents)
    if key is not None:
        from exporter.packing.signature import sign

        contents[SIGNATURE] = sign(contents, key)
    write_file(out, zip_of(contents))
    return Artifact.of(out)


def unpack(archive: Path, out: Path, key: Path | None = None) -> Manifest:
    """Write the bundle in an archive to the folder ``out``, as a whole or not at all.

    Args:
        archive: a zip file that anybody may have made.
        out: the folder to be; if it is there it must be empty.
        key: an ed25519 public key in PEM; only a bundle that its owner signed is written.

    Raises:
        BundleError: the archive is none of a bundle, damaged, or not signed by that key.
        ConfigError: the key cannot be used.
        OutputError: the folder cannot be written or holds something.
    """
    contents = read_zip(archive)
    manifest = check_contents(archive, contents)
    _check_signed(archive, contents, key)
    place(contents, out.resolve(), marker=None, elsewhere="another folder")
    return manifest


def verify_bundle(bundle: Path, key: Path | None = None) -> Verification:
    """Return whether a bundle, as a folder or an archive, is as it was made, and by whom.

    Raises:
        BundleError: there is nothing of that name.
        ConfigError: the key cannot be used.
    """
    if not bundle.exists():
        raise BundleError(f"{bundle} does not exist.")
    try:
        contents = read_folder(bundle) if bundle.is_dir() else read_zip(bundle)
        manifest = check_contents(bundle, contents)
        signed = _check_signed(bundle, contents, key)
    except BundleError as error:
        return Verification(
            passed=False, fault=str(error), model=None, target=None, model_sha256=None, signed=None
        )
    return Verification(
        passed=True,
        fault=None,
        model=manifest.model,
        target=manifest.target,
        model_sha256=manifest.model_sha256,
        signed=signed,
    )


def _check_signed(source: Path, contents: Contents, key: Path | None) -> Signed:
    if key is None:
        return "yes, not checked" if SIGNATURE in contents else "no"
    from exporter.packing.signature import check_signature

    check_signature(source, contents, key)
    return "yes, by this key"
