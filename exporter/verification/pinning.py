"""Holding the process on a few cores, so that times do not depend on where it wanders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from exporter.errors import ConfigError
from exporter.report.model import NotMeasured

_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


@contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...] | NotMeasured]:
    """Keep this thread, and those it starts, on ``threads`` cores; yields their numbers.

    The former cores are restored at the end. Where the system cannot pin, it yields why.

    Raises:
        ConfigError: there are not that many cores.
    """
    if not hasattr(os, "sched_setaffinity"):
        _check_enough(threads, usable_cores())
        yield NotMeasured(not_measured="this system cannot pin a process to a core")
        return
    before = os.sched_getaffinity(0)
    _check_enough(threads, len(before))
    cores = choose_cores(sorted(before), {core: _siblings(core) for core in before}, threads)
    try:
        os.sched_setaffinity(0, cores)
    except OSError as error:
        yield NotMeasured(not_measured=f"pinning was refused: {error.strerror}")
        return
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, before)


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_cores(
    available: Sequence[int], siblings: Mapping[int, str], count: int
) -> tuple[int, ...]:
    """Return ``count`` of the logical cores, on as many different physical ones as there are.

    The highest come first, because interrupts and other programs tend to sit on the lowest.
    ``siblings`` gives equal text to logical cores that share a physical one.
    """
    taken: list[int] = []
    doubled: list[int] = []
    for core in reversed(available):
        shared = any(siblings[core] == siblings[other] for other in taken)
        (doubled if shared else taken).append(core)
    return tuple(sorted((taken + doubled)[:count]))


def _siblings(core: int) -> str:
    try:
        return Path(_TOPOLOGY.format(core)).read_text(encoding="ascii").strip()
    except OSError:
        return str(core)


def _check_enough(threads: int, cores: int) -> None:
    if threads > cores:
        raise ConfigError(
            f"--threads is {threads}, but this process may use {cores} cores. "
            f"Ask for at most {cores}."
        )
