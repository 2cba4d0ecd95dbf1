"""Files with a known content, and a cache that runs a stage once.

A stage is a plain function ``stage(out, config, *inputs) -> frozen dataclass`` that writes its
files into the folder ``out``. ``Cache.run`` gives it a folder named after the digest of everything
that shapes its output: the stage's name and version, its config, the digests of its inputs and
the versions of the libraries it uses. The result is written last and the folder is renamed into
place, so a folder under its final name is always whole.

A stage that was killed is started again in the same working folder. Only the sub-folder ``resume``
survives such a restart; a stage that can continue half-done work keeps its state there.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, get_type_hints

from exporter.errors import CacheError, OutputError
from exporter.progress import say

P = ParamSpec("P")
R = TypeVar("R")

STORAGE_FAULTS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.ENOTDIR,
}  # fmt: skip
RESULT = "result.json"
RESUME = "resume"
LIBRARIES = (
    "numpy", "onnx", "onnxruntime", "onnxscript", "torch", "torch-pruning", "torchvision", "pillow",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A file and the sha256 of its content."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Artifact:
        """Return the artifact for the file as it is now."""
        return cls(path=path, sha256=sha256_of(path))

    def checked(self) -> Path:
        """Return the path after checking its content; raises CacheError if it has changed."""
        if not self.path.is_file():
            raise CacheError(f"{self.path} is missing. Delete its folder and run again.")
        if sha256_of(self.path) != self.sha256:
            raise CacheError(f"{self.path} has changed on disk. Delete its folder and run again.")
        return self.path


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: object) -> str:
    """Return a digest of a config or a stage result; an artifact counts by content, not by path."""
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: object) -> Any:
    if isinstance(value, Artifact):
        return value.sha256
    if dataclasses.is_dataclass(value):
        return {
            entry.name: _canonical(getattr(value, entry.name))
            for entry in dataclasses.fields(value)
            if entry.compare  # measured times and the like do not change what a result is
        }
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_canonical(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} cannot be part of a cache key")


@dataclass(frozen=True, kw_only=True, slots=True)
class StageRun:
    """A stage that was asked for."""

    name: str
    seconds: float
    cached: bool
    """Whether its result was already there."""


@dataclass(frozen=True, slots=True)
class Cache:
    """Runs a stage once per version, config and inputs."""

    root: Path
    runs: list[StageRun] = field(default_factory=list, compare=False)
    """What was asked of this cache, in order."""

    def run(
        self, stage: Callable[Concatenate[Path, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Return the stage's result, from the cache where it is known.

        Raises:
            CacheError: a cached file was changed or removed by somebody else.
            OutputError: the cache folder cannot be written.
        """
        name = stage.__name__.replace("_", "-")
        key = digest([name, _version_of(stage), _library_versions(), list(args), kwargs])
        final = self.root / f"{name}-{key[:20]}"
        result_type: type[R] = get_type_hints(stage)["return"]
        started = time.perf_counter()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:  # whatever its number: ENOENT in /proc, EEXIST where a file is
            raise self._unusable(error) from error
        try:
            with _locked(self.root / f".{final.name}.lock"):
                cached = (final / RESULT).is_file()
                if not cached:
                    self._make(final, lambda out: stage(out, *args, **kwargs))
        except OSError as error:
            if error.errno not in STORAGE_FAULTS:
                raise
            raise self._unusable(error) from error
        result = load_result(final, result_type)
        for artifact in artifacts_in(result):
            artifact.checked()
        seconds = time.perf_counter() - started
        self.runs.append(StageRun(name=name, seconds=seconds, cached=cached))
        return result

    def _unusable(self, error: OSError) -> OutputError:
        return OutputError(
            f"Cannot write to the cache folder {self.root}: {error.strerror}. "
            "Free some space or choose another with --cache."
        )

    def _make(self, final: Path, stage: Callable[[Path], object]) -> None:
        partial = self.root / f".{final.name}.partial"
        _sweep(partial)
        save_result(partial, stage(partial))
        shutil.rmtree(partial / RESUME, ignore_errors=True)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)


def _version_of(stage: Callable[..., object]) -> int:
    """A stage's module carries VERSION, raised when the same input would give another output."""
    module = __import__(stage.__module__, fromlist=["VERSION"])
    return int(getattr(module, "VERSION", 1))


@lru_cache
def _library_versions() -> dict[str, str]:
    from importlib.metadata import version  # slow to import, and `--help` needs none of it

    return {name: version(name) for name in LIBRARIES}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that dies with the process; a second build waits its turn."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"Waiting for another build that is making the same {path.stem.strip('.')} …")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sweep(partial: Path) -> None:
    """Leave an empty working folder, but for what a killed stage can continue from."""
    partial.mkdir(exist_ok=True)
    for entry in partial.iterdir():
        if entry.name == RESUME:
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def cache_folder(given: Path | None, environment: Mapping[str, str]) -> Path:
    """Return the cache to use: the one asked for, else the user's."""
    if given is not None:
        return given
    caches = environment.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    root = Path(caches) if Path(caches).is_absolute() else Path.home() / ".cache"
    return root / "edge-exporter"


def save_result(folder: Path, result: object) -> None:
    """Write a stage's result; artifact paths inside ``folder`` are stored relative to it."""
    from pydantic import TypeAdapter

    document = TypeAdapter(type(result)).dump_python(_moved(result, folder, Path()), mode="json")
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    temporary = folder / f".{RESULT}"
    temporary.write_text(text)
    temporary.replace(folder / RESULT)


def load_result(folder: Path, result_type: type[R]) -> R:
    """Read what ``save_result`` wrote; raises CacheError if it does not fit the type."""
    from pydantic import TypeAdapter, ValidationError

    try:
        result = TypeAdapter(result_type).validate_json((folder / RESULT).read_bytes())
    except ValidationError as error:
        raise CacheError(f"{folder / RESULT} is damaged. Delete {folder} and run again.") from error
    return cast(R, _moved(result, Path(), folder))


def artifacts_in(value: object) -> Iterator[Artifact]:
    """Yield every artifact inside a result."""
    if isinstance(value, Artifact):
        yield value
    elif dataclasses.is_dataclass(value):
        for entry in dataclasses.fields(value):
            yield from artifacts_in(getattr(value, entry.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from artifacts_in(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from artifacts_in(item)


def _moved(value: Any, old: Path, new: Path) -> Any:
    """Return ``value`` with the artifact paths below ``old`` placed below ``new``."""
    if isinstance(value, Artifact):
        path = new / (value.path.relative_to(old) if value.path.is_relative_to(old) else value.path)
        return dataclasses.replace(value, path=path)
    if dataclasses.is_dataclass(value):
        changes = {
            entry.name: _moved(getattr(value, entry.name), old, new)
            for entry in dataclasses.fields(value)
        }
        return dataclasses.replace(cast(Any, value), **changes)
    if isinstance(value, Mapping):
        return {key: _moved(item, old, new) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_moved(item, old, new) for item in value)
    return value
