from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from exporter.errors import ConfigError
from exporter.report.model import NotMeasured
from exporter.verification.pinning import choose_cores, pinned

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system cannot pin"
)


@needs_affinity
def test_the_process_is_held_on_one_core_and_let_go() -> None:
    before = os.sched_getaffinity(0)

    with pinned(1) as cores:
        assert isinstance(cores, tuple)
        assert len(cores) == 1
        assert os.sched_getaffinity(0) == set(cores) <= before

    assert os.sched_getaffinity(0) == before


@needs_affinity
def test_the_process_is_let_go_after_an_error() -> None:
    before = os.sched_getaffinity(0)

    with pytest.raises(ZeroDivisionError), pinned(1):
        raise ZeroDivisionError

    assert os.sched_getaffinity(0) == before


@needs_affinity
def test_more_threads_than_cores_are_refused() -> None:
    cores = len(os.sched_getaffinity(0))

    with (
        pytest.raises(ConfigError, match=f"--threads is {cores + 1}, .* use {cores} cores"),
        pinned(cores + 1),
    ):
        pass


def test_a_system_that_refuses_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, cores: Sequence[int]) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)

    with pinned(1) as cores:
        assert cores == NotMeasured(not_measured="pinning was refused: Operation not permitted")


def test_a_system_without_pinning_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)

    with pinned(1) as cores:
        assert isinstance(cores, NotMeasured)


@pytest.mark.parametrize(
    ("siblings", "count", "chosen"),
    [
        pytest.param(["0", "1", "2", "3"], 1, (3,), id="highest"),
        pytest.param(["0", "1", "2", "3"], 3, (1, 2, 3), id="several"),
        pytest.param(["0-1", "0-1", "2-3", "2-3"], 2, (1, 3), id="neighbours share a core"),
        pytest.param(["0,2", "1,3", "0,2", "1,3"], 2, (2, 3), id="halves share cores"),
        pytest.param(["0-1", "0-1", "2-3", "2-3"], 3, (1, 2, 3), id="more than physical cores"),
    ],
)
def test_physical_cores_come_first(
    siblings: list[str], count: int, chosen: tuple[int, ...]
) -> None:
    assert choose_cores(range(4), dict(enumerate(siblings)), count) == chosen
