"""The time of every operator that ONNX Runtime executes, from its own profile.

Profiling slows a run down by half and tells whole microseconds. It is therefore used for shares
alone: each operator's typical time is scaled so that all of them add up to the time of a run that
was not profiled. What the runtime spends between operators is thereby spread over all of them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from exporter.artifacts import Artifact
from exporter.contract import INPUT_NAME, OUTPUT_NAME
from exporter.graph.execution import CONVERSIONS
from exporter.progress import track
from exporter.verification.pinning import pinned

RUNS = 200
"""Profiled runs ..."""
FIRST_RUNS = 20
"""... of which the first are not counted."""
_ERRORS_ONLY = 3
_SUFFIX = "_kernel_time"


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorTime:
    """One operator of the graph that is executed."""

    node: str
    """Its name there."""
    operator: str
    integer: bool
    """Whether it computes on 8-bit data."""
    ms: float
    """Its part of the time of one run that is not profiled."""


def profile_operators(
    model: Artifact, image: NDArray[np.uint8], run_ms: float, *, threads: int, runs: int = RUNS
) -> tuple[OperatorTime, ...]:
    """Return the operators of a file in the order of execution, with times that add up to a run's.

    Args:
        model: a file that keeps the raw-bytes contract.
        image: what is classified, ``uint8 [H, W, C]``.
        run_ms: time of one run without profiling.
        threads: threads of a run.
        runs: how often it is run with profiling.
    """
    with tempfile.TemporaryDirectory(prefix="profile-") as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        with pinned(threads), track("Profiling", total=runs) as advance:
            path = str(model.checked())
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            for _ in range(runs):
                session.run([OUTPUT_NAME], {INPUT_NAME: image[np.newaxis]})
                advance(1, "")
            written = session.end_profiling()
        return operator_times(json.loads(Path(written).read_text(encoding="utf-8")), run_ms)


def operator_times(events: Sequence[Mapping[str, Any]], run_ms: float) -> tuple[OperatorTime, ...]:
    """Return the operators in the events of a profile; see ``profile_operators``."""
    kernels = [
        event for event in events if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX)
    ]
    times: dict[int, list[float]] = {}
    for event in kernels:
        times.setdefault(int(event["args"]["node_index"]), []).append(float(event["dur"]))
    typical = {
        index: interquartile_mean(values[FIRST_RUNS:] or values) for index, values in times.items()
    }
    scale = run_ms / max(sum(typical.values()), 1e-9)
    described = {int(event["args"]["node_index"]): event for event in kernels}
    return tuple(
        OperatorTime(
            node=described[index]["name"].removesuffix(_SUFFIX),
            operator=described[index]["args"]["op_name"],
            integer=_is_integer(described[index]["args"]),
            ms=value * scale,
        )
        for index, value in typical.items()
    )


def interquartile_mean(values: Sequence[float]) -> float:
    """Return the mean of the middle half: what is measured in whole steps keeps its fractions."""
    ordered = sorted(values)
    quarter = len(ordered) // 4
    return float(np.mean(ordered[quarter : len(ordered) - quarter]))


def _is_integer(args: Mapping[str, Any]) -> bool:
    if args["op_name"] in CONVERSIONS:
        return False
    first: Mapping[str, object] = next(iter(args["input_type_shape"]), {})
    return bool({"uint8", "int8"} & first.keys())
