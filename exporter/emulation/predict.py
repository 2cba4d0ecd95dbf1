"""Stage: logits of test images, computed by the shipped bytes on an emulated CPU."""

from __future__ import annotations

import itertools
import os
import selectors
import shutil
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporter.artifacts import Artifact
from exporter.data.splits import Split
from exporter.emulation.emulator import Emulator
from exporter.emulation.instruction_sets import INSTRUCTION_SETS
from exporter.emulation.tools import complaint
from exporter.errors import DataError, EmulationError, GraphError
from exporter.progress import Advance, track
from exporter.verification.predict import Predictions

VERSION = 1

RUNNER = Path(__file__).with_name("runner.py")
FEWEST_IMAGES = 16
"""Of one process: starting an emulated Python takes seconds."""


def predict_emulated(
    out: Path, model: Artifact, data: Split, emulator: Emulator, images: int
) -> Predictions:
    """Return the logits of ``images`` of the split's images: those that ``sample`` names.

    They are divided among processes, one per core.

    Raises:
        DataError: the split is empty.
        EmulationError: the emulator or the run inside fails; a file that this ONNX Runtime cannot
            load or images that do not fit it are told the same way.
        GraphError: a logit is not finite.
    """
    pixels, labels = data.arrays()
    if not len(labels):
        raise DataError(f"The {data.name} split is empty, so there is nothing to measure on.")
    chosen = sample(labels, images)
    work = out / "work"
    work.mkdir()
    file = work / "images.npy"
    np.save(file, pixels[chosen])
    logits = run_emulated(emulator, model.checked(), file, len(chosen), work)
    shutil.rmtree(work)
    if not np.isfinite(logits).all():
        raise GraphError(f"{model.path} gives logits on {emulator.isa} that are not finite.")
    result = out / "logits.npy"
    np.save(result, logits)
    return Predictions(logits=Artifact.of(result), count=len(chosen))


def sample(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return ascending positions of at most ``count`` images, each class by its share."""
    count = min(count, len(labels))
    by_class = np.argsort(labels, kind="stable")
    return np.sort(by_class[np.arange(count) * len(labels) // count])


def shares(count: int, processes: int) -> tuple[tuple[int, int], ...]:
    """Return first and last + 1 of each process's images, equal but for one, none too few."""
    processes = max(1, min(processes, count // FEWEST_IMAGES))
    ends = [count * number // processes for number in range(processes + 1)]
    return tuple(itertools.pairwise(ends))


def run_emulated(
    emulator: Emulator, model: Path, images: Path, count: int, folder: Path
) -> NDArray[np.float32]:
    """Return the logits of ``count`` images, ``uint8 [count, H, W, C]`` in a .npy file.

    Args:
        emulator: the CPU.
        model: a file with one input, the images, whose first output is returned.
        images: the .npy file.
        count: images in it.
        folder: receives what the processes leave.

    Raises:
        EmulationError: a process fails. The others are then stopped.
    """
    parts = shares(count, len(os.sched_getaffinity(0)))
    results = [folder.absolute() / f"share-{number}.npy" for number in range(len(parts))]
    processes = []
    with (
        selectors.DefaultSelector() as waiting,
        track(f"Emulating {emulator.isa} on {count} images", total=count) as advance,
    ):
        try:
            for part, result in zip(parts, results, strict=True):
                process = _start(emulator, model.absolute(), images.absolute(), part, result)
                processes.append(process)
                assert process.stdout
                waiting.register(process.stdout, selectors.EVENT_READ, (process, result))
            _follow(waiting, advance, emulator)
        finally:
            for process in processes:
                process.kill()
                with process:  # closes its pipe, and waits for it
                    pass
    return np.concatenate([np.load(result) for result in results])


def _start(
    emulator: Emulator, model: Path, images: Path, part: tuple[int, int], result: Path
) -> subprocess.Popen[bytes]:
    wanted = INSTRUCTION_SETS[emulator.isa]
    arguments = (wanted.has, wanted.lacks, model, images, *part, result)
    with _log(result).open("wb") as log:
        return subprocess.Popen(
            [*emulator.command, str(RUNNER), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=result.parent,  # where a crash may leave its core
            env=emulator.environment,
        )


def _follow(waiting: selectors.BaseSelector, advance: Advance, emulator: Emulator) -> None:
    """Read what the processes write, a byte for each image, until they have ended."""
    while waiting.get_map():
        for key, _ in waiting.select():
            done = os.read(key.fd, 4096)
            advance(len(done), "")
            if done:
                continue
            waiting.unregister(key.fileobj)
            process, result = key.data
            if process.wait():
                said = complaint(_log(result).read_text(errors="replace"), process.returncode)
                raise EmulationError(
                    f"The run on {emulator.isa} (QEMU {emulator.qemu}, onnxruntime "
                    f"{emulator.onnxruntime}) failed: {said}. Leave {emulator.isa} out of --isa "
                    "to go on without it."
                )


def _log(result: Path) -> Path:
    return result.with_suffix(".log")
