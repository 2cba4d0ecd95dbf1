"""Images are divided among processes, and what these say is put together again."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from exporter.artifacts import Artifact, Cache
from exporter.data.splits import Split, Splits
from exporter.emulation.predict import predict_emulated, run_emulated, sample, shares
from exporter.errors import DataError, EmulationError, GraphError
from exporter.progress import Advance, shown_on
from tests.emulation import fake
from tests.verification.linear_model import RIGHT, linear_model, qdq_model

MakeSplit = Callable[[str, int, int], Split]


class Meter:
    """A display that adds up."""

    def __init__(self) -> None:
        self.totals: dict[str, list[float]] = {}

    def task(self, description: str, total: float) -> AbstractContextManager[Advance]:
        @contextmanager
        def running() -> Iterator[Advance]:
            steps = self.totals.setdefault(description, [total])
            yield lambda amount, note: steps.append(amount)

        return running()

    def message(self, text: str) -> None:
        raise AssertionError(text)


def native(model: Artifact, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = ort.InferenceSession(str(model.path)).run(
        None, {"image": images}
    )[0]
    return logits


@pytest.mark.parametrize(
    ("count", "processes", "expected"),
    [
        (1, 8, ((0, 1),)),
        (31, 2, ((0, 31),)),
        (32, 2, ((0, 16), (16, 32))),
        (100, 3, ((0, 33), (33, 66), (66, 100))),
        (1000, 1, ((0, 1000),)),
    ],
)
def test_shares_hold_every_image_once_and_start_no_process_for_a_few(
    count: int, processes: int, expected: tuple[tuple[int, int], ...]
) -> None:
    assert shares(count, processes) == expected


def test_a_sample_has_each_class_by_its_share_in_the_order_of_the_split() -> None:
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10, np.int64)

    chosen = sample(labels, 20)

    assert np.bincount(labels[chosen]).tolist() == [12, 6, 2]
    assert (np.diff(chosen) > 0).all()
    shuffled = np.random.default_rng(0).permutation(labels)
    assert np.bincount(shuffled[sample(shuffled, 20)]).tolist() == [12, 6, 2]


def test_a_sample_of_more_than_there_are_is_all() -> None:
    assert sample(np.array([2, 0, 1], np.int64), 9).tolist() == [0, 1, 2]


def test_the_logits_are_those_of_the_images_in_their_order(
    tmp_path: Path, make_split: MakeSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = make_split("test", 40, 7)
    model = qdq_model(tmp_path / "m.onnx")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    meter = Meter()

    with shown_on(meter):
        found = predict_emulated(tmp_path, model, split, fake.emulator(monkeypatch, "avx2"), 33)

    images, labels = split.arrays()
    assert found.count == 33
    np.testing.assert_array_equal(
        np.load(found.logits.path), native(model, images[sample(labels, 33)])
    )
    ((total, *steps),) = meter.totals.values()
    assert (total, sum(steps)) == (33, 33)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logits.npy", "m.onnx", "made"]


def test_a_cpu_that_is_not_the_one_asked_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = qdq_model(tmp_path / "m.onnx")
    np.save(tmp_path / "images.npy", np.zeros((1, 20, 20, 3), np.uint8))
    wrong = fake.emulator(monkeypatch, "avx2", has=fake.ABSENT)

    with pytest.raises(EmulationError, match=rf"avx2 .* failed: .*{fake.ABSENT}") as error:
        run_emulated(wrong, model.path, tmp_path / "images.npy", 1, tmp_path)

    assert "\n" not in str(error.value)
    assert "--isa" in str(error.value)


def test_one_process_that_fails_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys, time; sys.exit('broken') if sys.argv[-3] == '0' else time.sleep(600)"
    emulator = fake.emulator(monkeypatch, "avx2")
    emulator = dataclasses.replace(emulator, command=(*emulator.command, "-c", script))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    started = time.monotonic()

    with pytest.raises(EmulationError, match=r"failed: broken\."):
        run_emulated(emulator, tmp_path / "m.onnx", tmp_path / "images.npy", 32, tmp_path)

    assert time.monotonic() - started < 300


def test_a_crash_is_told_by_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import os, sys; sys.stderr.write('qemu: warning: TCG\\n'); os.kill(os.getpid(), 11)"
    emulator = fake.emulator(monkeypatch, "avx2")
    emulator = dataclasses.replace(emulator, command=(*emulator.command, "-c", script))

    with pytest.raises(EmulationError, match=r"failed: SIGSEGV ended it\."):
        run_emulated(emulator, tmp_path / "m.onnx", tmp_path / "images.npy", 1, tmp_path)


def test_logits_that_are_not_finite_are_refused(
    tmp_path: Path, make_split: MakeSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = make_split("test", 3, 7)
    model = linear_model(tmp_path / "m.onnx", np.full_like(RIGHT, np.inf))

    with pytest.raises(GraphError, match=r"m\.onnx gives logits on avx2 that are not finite"):
        predict_emulated(tmp_path, model, split, fake.emulator(monkeypatch, "avx2"), 3)


def test_an_empty_split_is_refused(
    tmp_path: Path, make_split: MakeSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = make_split("test", 0, 7)
    model = qdq_model(tmp_path / "m.onnx")

    with pytest.raises(DataError, match="test split is empty"):
        predict_emulated(tmp_path, model, split, fake.emulator(monkeypatch, "avx2"), 3)


def test_the_cache_knows_the_file_the_cpu_and_the_runtime(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = splits.test
    model = qdq_model(tmp_path / "m.onnx")
    emulator = fake.emulator(monkeypatch, "avx2")
    elsewhere = dataclasses.replace(emulator, environment={**emulator.environment, "X": "1"})
    newer = dataclasses.replace(emulator, onnxruntime="0.1")
    cache = Cache(tmp_path / "cache")

    for entry, images in ((emulator, 3), (elsewhere, 3), (newer, 3), (emulator, 4)):
        cache.run(predict_emulated, model, split, entry, images)

    assert [run.cached for run in cache.runs] == [False, True, False, False]
