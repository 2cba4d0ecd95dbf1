"""Files of several quantizers, classified and timed in one process, all in turns.

``benchmarks.against_quantizers`` starts it, with an interpreter that has the runtimes::

    python -m benchmarks.interleaved PLAN.json FOLDER

The protocol is the project's own (``exporter.verification.latency``): one pinned core, one thread,
blocks of runs in random order. The first file is opened twice, which tells the noise. Every file is
given its input ready-made, raw bytes or normalised floats, whichever it takes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporter.verification.latency import AGAIN, time_blocks
from exporter.verification.pinning import pinned

BATCH = 50
Classify = Callable[[NDArray[np.generic]], NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One file; paths as text, so that JSON can hold them."""

    name: str
    path: str
    runtime: str
    """onnxruntime or openvino."""
    images: str
    """A .npy file of what it takes, the images along axis 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What to run."""

    subjects: tuple[Subject, ...]
    seconds: float
    """Spent on timing, all files together."""


def open_file(subject: Subject, threads: int) -> Classify:
    """Return a function from a batch to logits; 0 threads stand for one per core."""
    return _RUNTIMES[subject.runtime](subject.path, threads)


def _onnxruntime(path: str, threads: int) -> Classify:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def classify(batch: NDArray[np.generic]) -> NDArray[np.float32]:
        (logits,) = session.run(None, {name: batch})
        return np.asarray(logits)

    return classify


def _openvino(path: str, threads: int) -> Classify:
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": "NO"}
    if threads:
        settings |= {"INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1"}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()

    def classify(batch: NDArray[np.generic]) -> NDArray[np.float32]:
        found = request.infer([batch], share_inputs=True, share_outputs=True)
        return np.asarray(found[0])

    return classify


_RUNTIMES: dict[str, Callable[[str, int], Classify]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def classify_all(subject: Subject) -> NDArray[np.float32]:
    """Return the logits of all images, ``float32 [N, classes]``."""
    images = np.load(subject.images, mmap_mode="r")
    classify = open_file(subject, threads=0)
    batches = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
    return np.concatenate([classify(np.ascontiguousarray(batch)).copy() for batch in batches])


def time_all(subjects: Sequence[Subject], seconds: float) -> dict[str, NDArray[np.int64]]:
    """Return nanoseconds of single runs by name, ``[rounds, runs of a block]``, one image each."""
    first = subjects[0]
    opened: dict[str, Callable[[], object]] = {}
    with pinned(1):  # the sessions' threads inherit the core
        for name, subject in [*((each.name, each) for each in subjects), (AGAIN, first)]:
            classify = open_file(subject, threads=1)
            image = np.ascontiguousarray(np.load(subject.images, mmap_mode="r")[:1])
            opened[name] = partial(classify, image)
        return dict(time_blocks(opened, seconds, np.random.default_rng(0)))


def main(plan_file: Path, out: Path) -> None:
    """Write ``logits-0.npy``, ``times-0.npy`` and so on, by the order of the files.

    One more ``times`` is that of the first file, opened again.
    """
    document = json.loads(plan_file.read_text())
    subjects = tuple(Subject(**each) for each in document["subjects"])
    for index, subject in enumerate(subjects):
        np.save(out / f"logits-{index}.npy", classify_all(subject))
    times = time_all(subjects, document["seconds"])
    for index, name in enumerate([*(each.name for each in subjects), AGAIN]):
        np.save(out / f"times-{index}.npy", times[name])


def write_plan(plan: Plan, path: Path) -> None:
    """Write what ``main`` reads."""
    path.write_text(json.dumps(asdict(plan)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
