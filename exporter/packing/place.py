"""Files and folders that appear under their name as a whole or not at all.

They are written beside it, synced to disk and renamed. An older folder is moved aside just before
and comes back if anything fails, be it in the next run.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from exporter.errors import OutputError

ELSEWHERE = "another folder with --out"


def place(
    files: Mapping[str, bytes], final: Path, marker: str | None, elsewhere: str = ELSEWHERE
) -> None:
    """Make ``final`` a folder of exactly these files.

    Args:
        files: contents by name.
        final: the folder.
        marker: a file by which an older folder of ours is known, to be replaced; None if there is
            nothing to be replaced but an empty folder.
        elsewhere: how to choose another folder, for what is said to the user.

    Raises:
        OutputError: the folder cannot be written, or something that is not ours has its name.
    """
    partial, aside = _working_paths(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with _alone(final.parent):
            try:
                _clean_up(final)
                _check_free(final, marker, elsewhere)
                partial.mkdir()
                for name, content in files.items():
                    _write(partial / name, content)
                _sync(partial)
                if final.exists():
                    final.rename(aside)
                partial.rename(final)
                _sync(final.parent)
            finally:
                with suppress(OSError):  # the next run tries again
                    _clean_up(final)
    except OSError as error:
        raise cannot_write(final, error, elsewhere) from error


def write_file(path: Path, content: bytes) -> None:
    """Write a file, in place of an older one; raises OutputError if that is impossible."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.parent):
            try:
                partial.unlink(missing_ok=True)  # of a run that was killed
                _write(partial, content)
                partial.replace(path)
                _sync(path.parent)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error, "another place") from error


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _working_paths(final: Path) -> tuple[Path, Path]:
    """Return the folders for the new content and for the old one, on the same file system."""
    return final.with_name(f".{final.name}.partial"), final.with_name(f".{final.name}.aside")


def _clean_up(final: Path) -> None:
    """Remove what a run left behind, but bring back a folder that was not replaced in the end."""
    partial, aside = _working_paths(final)
    if aside.exists():
        if final.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(final)
    if partial.exists():
        shutil.rmtree(partial)


def _check_free(final: Path, marker: str | None, elsewhere: str) -> None:
    """Raise OutputError if replacing ``final`` would destroy something that is not ours."""
    if final.is_symlink() or (final.exists() and not final.is_dir()):
        raise OutputError(f"{final} is in the way. Move it, or choose {elsewhere}.")
    ours = marker is not None and (final / marker).is_file()
    if final.is_dir() and any(final.iterdir()) and not ours:
        kind = "already holds files" if marker is None else "holds files of another kind"
        raise OutputError(f"{final} {kind}. Move it, or choose {elsewhere}.")


def check_writable(out: Path) -> None:
    """Make the folder that will receive bundles; raises OutputError if nothing can go there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise cannot_write(out, error) from error


def cannot_write(path: Path, error: OSError, elsewhere: str = ELSEWHERE) -> OutputError:
    """Return what is said where a file or folder cannot be written."""
    return OutputError(
        f"Cannot write {path}: {error.strerror or error}. Free some space or choose {elsewhere}."
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time change the folder; the lock dies with its holder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot lock
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync(folder: Path) -> None:
    """Make the entries of a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
