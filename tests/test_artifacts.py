"""The cache runs a stage once, survives kills and notices damage."""

from __future__ import annotations

import dataclasses
import errno
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exporter.artifacts import RESUME, Artifact, Cache, digest, sha256_of
from exporter.errors import CacheError, OutputError

VERSION = 1
calls: list[str] = []


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    number: int = 1
    name: str = "a"


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    file: Artifact
    by_name: dict[str, Artifact]
    seconds: float = field(default=0.0, compare=False)


def make(out: Path, config: Config) -> Made:
    calls.append(f"{config.number}{config.name}")
    (out / "sub").mkdir()
    (out / "sub" / "file").write_text(f"{config.number}{config.name}")
    (out / "other").write_text("other")
    return Made(
        file=Artifact.of(out / "sub" / "file"), by_name={"other": Artifact.of(out / "other")}
    )


def use(out: Path, made: Made) -> Made:
    calls.append("use")
    (out / "copy").write_text(made.file.path.read_text())
    return Made(file=Artifact.of(out / "copy"), by_name={})


def fail_midway(out: Path, config: Config) -> Made:
    (out / "half").write_text("half")
    raise ZeroDivisionError


def sleep_midway(out: Path, config: Config) -> Made:
    resume = out / RESUME
    if (resume / "state").exists():
        (out / "file").write_text((resume / "state").read_text() + " continued")
        return Made(file=Artifact.of(out / "file"), by_name={})
    resume.mkdir()
    (resume / "state").write_text("half")
    (out / "rubbish").write_text("rubbish")
    time.sleep(60)
    raise AssertionError("was to be killed")


@pytest.fixture(autouse=True)
def forget_calls() -> None:
    calls.clear()


def test_a_hit_does_not_run_the_stage(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    first = cache.run(make, Config())
    second = cache.run(make, Config())
    assert calls == ["1a"]
    assert first == second
    assert second.file.path.read_text() == "1a"
    assert [run.cached for run in cache.runs] == [False, True]


@pytest.mark.parametrize("changed", [Config(number=2), Config(name="b")])
def test_any_changed_field_misses(tmp_path: Path, changed: Config) -> None:
    cache = Cache(tmp_path)
    cache.run(make, Config())
    assert cache.run(make, changed).file.path.read_text() != "1a"
    assert len(calls) == 2


def test_a_changed_input_misses_but_its_path_does_not_count(tmp_path: Path) -> None:
    here, there = Cache(tmp_path / "here"), Cache(tmp_path / "there")
    here.run(use, here.run(make, Config()))
    moved = there.run(make, Config())
    here.run(use, moved)
    assert calls == ["1a", "use", "1a"]
    here.run(use, here.run(make, Config(number=3)))
    assert calls[-2:] == ["3a", "use"]


def test_measured_times_do_not_count(tmp_path: Path) -> None:
    made = Cache(tmp_path).run(make, Config())
    assert digest(made) == digest(dataclasses.replace(made, seconds=5.0))


def test_a_new_version_of_the_stage_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    cache.run(make, Config())
    monkeypatch.setitem(globals(), "VERSION", 2)
    cache.run(make, Config())
    assert len(calls) == 2


def test_an_exception_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(ZeroDivisionError):
        cache.run(fail_midway, Config())
    assert not list(tmp_path.glob("fail-midway-*"))


def test_a_killed_stage_continues_from_its_resume_folder_only(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=Cache(tmp_path).run, args=(sleep_midway, Config())
    )
    process.start()
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".*.partial/rubbish")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not list(tmp_path.glob("sleep-midway-*"))
    made = Cache(tmp_path).run(sleep_midway, Config())
    assert made.file.path.read_text() == "half continued"
    folder = made.file.path.parent
    assert sorted(entry.name for entry in folder.iterdir()) == ["file", "result.json"]


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    path = cache.run(make, Config()).by_name["other"].path
    path.write_text("0ther")
    with pytest.raises(CacheError, match="other has changed on disk"):
        cache.run(make, Config())


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.run(make, Config()).file.path.unlink()
    with pytest.raises(CacheError, match="is missing"):
        cache.run(make, Config())


def test_a_damaged_result_is_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    folder = cache.run(make, Config()).by_name["other"].path.parent
    (folder / "result.json").write_text("{")
    with pytest.raises(CacheError, match=r"result\.json is damaged"):
        cache.run(make, Config())


def test_the_cache_may_be_moved(tmp_path: Path) -> None:
    Cache(tmp_path / "old").run(make, Config())
    (tmp_path / "old").rename(tmp_path / "new")
    made = Cache(tmp_path / "new").run(make, Config())
    assert calls == ["1a"]
    assert made.file.path.is_relative_to(tmp_path / "new")


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    def full(out: Path, config: Config) -> Made:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    full.__annotations__ = make.__annotations__
    with pytest.raises(OutputError, match="No space left on device"):
        Cache(tmp_path).run(full, Config())


def test_an_os_error_that_is_a_bug_stays_a_bug(tmp_path: Path) -> None:
    def careless(out: Path, config: Config) -> Made:
        (out / "missing").read_text()
        raise AssertionError

    careless.__annotations__ = make.__annotations__
    with pytest.raises(FileNotFoundError):
        Cache(tmp_path).run(careless, Config())


def test_a_cache_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--cache"):
        Cache(tmp_path / "file" / "cache").run(make, Config())


def _run_slowly(root: Path, log: Path) -> None:
    def slow(out: Path, config: Config) -> Made:
        with log.open("a") as file:
            file.write("ran\n")
        time.sleep(0.5)
        (out / "file").write_text("slow")
        return Made(file=Artifact.of(out / "file"), by_name={})

    slow.__annotations__ = make.__annotations__
    Cache(root).run(slow, Config())


def test_two_builds_at_once_make_a_stage_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_run_slowly, args=(tmp_path / "cache", log)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert log.read_text() == "ran\n"


def test_sha256_matches_the_standard_vector(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2
    assert sha256_of(tmp_path / "abc") == expected


def test_a_file_in_place_of_the_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(OutputError, match=r"File exists.*--cache"):
        Cache(tmp_path / "cache").run(make, Config())
