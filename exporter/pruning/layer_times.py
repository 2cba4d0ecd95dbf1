"""How long the int8 file of a network will take on this machine, without making the file.

A table holds the measured time of every layer that was asked for; a network's time is the sum over
its layers, plus what every run takes whatever is in it. A layer that is missing is measured once,
in a file of its own (``exporter.pruning.layer_graphs``) and in the way ``verify`` measures: one
image, one thread pinned to a core, warmed up, with and without the layer in turns. Of each the
fastest block counts: what disturbs a measurement only ever makes it slower.

The table lies in the cache folder, ``layer-times-<machine>.json``. It is there to choose by; what a
shipped file takes is always measured anew.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from torch import nn

from exporter.artifacts import cache_folder, digest
from exporter.contract import InputContract
from exporter.errors import OutputError
from exporter.progress import Silent, shown_on, track
from exporter.pruning.layer_graphs import INPUT, bare_file, layer_file
from exporter.pruning.layer_shapes import LayerShape
from exporter.pruning.layer_trace import trace_layers
from exporter.targets import Target
from exporter.verification.latency import time_blocks
from exporter.verification.machine import describe_machine
from exporter.verification.pinning import pinned

VERSION = 1
"""Raised when a layer would be measured differently."""

THREADS = 1
SECONDS = 0.06
"""Time spent on one layer."""
EMPTY_RUN = "empty run"
"""Key of what every run takes: the call from Python, taking the image, handing over logits."""

Measure = Callable[[LayerShape | None, bool], float]
"""Milliseconds of a layer, or of an empty run; with a scale per output channel, or one for all."""

_Table = TypeAdapter(dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]])
_ERRORS_ONLY = 3


def measure_ms(layer: LayerShape | None, per_channel: bool) -> float:
    """Return the time of ``layer`` within a network, or of an empty run, on this machine now."""
    with pinned(THREADS), shown_on(Silent()):  # the sessions' threads inherit the core
        if layer is None:
            subjects = {"bare": _runner(bare_file(_LOGITS), _LOGITS.output_shape)}
        else:
            subjects = {
                "bare": _runner(bare_file(layer), layer.output_shape),
                "whole": _runner(layer_file(layer, per_channel=per_channel), layer.input_shape),
            }
        blocks = time_blocks(subjects, SECONDS, np.random.default_rng(0))
    fastest = {name: _fastest_ms(times) for name, times in blocks.items()}
    return max(0.0, fastest["whole"] - fastest["bare"]) if layer else fastest["bare"]


def estimate_ms(
    module: nn.Module,
    contract: InputContract,
    target: Target,
    *,
    folder: Path | None = None,
    measure: Measure = measure_ms,
) -> float:
    """Return the expected time of one image on one thread, once ``module`` is an int8 file.

    Only the shapes of ``module`` matter. Operators of other kinds than ``Kind`` names count as
    free.

    Args:
        module: the network, on the CPU.
        contract: the input side of the file.
        target: what the file is for; its weights' format decides which kernels run.
        folder: the cache folder with the table; None stands for the user's.
        measure: how a missing entry is found.

    Raises:
        OutputError: the table cannot be read or written.
    """
    layers = (None, *trace_layers(module, contract))
    known = _with_missing(
        {_key(layer, target): layer for layer in layers},
        table_path(folder),
        lambda layer: measure(layer, target.per_channel),
    )
    return sum(known[_key(layer, target)] for layer in layers)


def table_path(folder: Path | None) -> Path:
    """Return this machine's table in a cache folder, None for the user's."""
    if folder is None:
        given = os.environ.get("EXPORTER_CACHE")
        folder = cache_folder(Path(given) if given else None, os.environ)
    return folder / f"layer-times-{machine_key()}.json"


@lru_cache
def machine_key() -> str:
    """Return a digest of what times depend on beside the network: processor, runtime, threads."""
    machine = describe_machine()
    facts = (machine.cpu, machine.architecture, machine.instruction_sets, machine.onnxruntime)
    return digest([VERSION, THREADS, *facts])[:20]


def _key(layer: LayerShape | None, target: Target) -> str:
    if layer is None:
        return EMPTY_RUN
    return f"{layer} {'per channel' if target.per_channel else 'per tensor'}"


def _with_missing(
    wanted: dict[str, LayerShape | None],
    path: Path,
    measure: Callable[[LayerShape | None], float],
) -> dict[str, float]:
    """Return the table with all that is wanted in it, and write down what was measured for it."""
    known = _read(path)
    missing = {key: layer for key, layer in wanted.items() if key not in known}
    if missing:
        with (
            _old_objects_at_rest(),
            track(f"Timing {len(missing)} layers", total=len(missing)) as advance,
        ):
            for key, layer in missing.items():
                # Read again: somebody else may be measuring, too.
                known = {**_read(path), **known, key: measure(layer)}
                _write(path, known)
                advance(1, key)
    return known


@contextmanager
def _old_objects_at_rest() -> Iterator[None]:
    """Spare the collections before each timing what exists by now: with torch 0.3 s apiece."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _read(path: Path) -> dict[str, float]:
    """Return the table; a damaged one counts as empty, since it is soon measured again."""
    try:
        return _Table.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}
    except OSError as error:
        raise OutputError(_refusal("read", path, error)) from error


def _write(path: Path, table: dict[str, float]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
        draft.replace(path)
    except OSError as error:
        raise OutputError(_refusal("write", path, error)) from error


def _refusal(what: str, path: Path, error: OSError) -> str:
    return f"Cannot {what} {path}: {error.strerror}. Choose another cache folder with --cache."


_LOGITS = LayerShape(kind="linear", inputs=1, outputs=10, size=(1, 1), out_size=(1, 1))
"""What an empty run takes; how many hardly matters."""


def _runner(file: bytes, shape: tuple[int, ...]) -> Callable[[], object]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = _ERRORS_ONLY
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feed = {INPUT: np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)}
    return lambda: session.run(None, feed)


def _fastest_ms(times_ns: NDArray[np.int64]) -> float:
    return float(np.median(times_ns, axis=1).min()) / 1e6
