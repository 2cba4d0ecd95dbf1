"""A file's time by operator, beside its float baseline, with reasons and advice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto

from exporter.artifacts import Artifact
from exporter.config import VerifyConfig
from exporter.errors import GraphError
from exporter.explanation.advice import Advice, advise
from exporter.explanation.profile import OperatorTime, profile_operators
from exporter.explanation.rows import Fused, Row, fused, named
from exporter.graph.execution import CONVERSIONS
from exporter.graph.limits import read_model
from exporter.graph.reasons import reason_for_float
from exporter.option import check_limits
from exporter.verification.latency import summarize, time_models
from exporter.verification.machine import describe_machine
from exporter.verification.session import image_shape, open_session


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Where the time of a file goes."""

    path: str
    run_ms: float
    """Median time of one image, without profiling."""
    baseline: str | None
    baseline_ms: float | None
    """The same of the baseline, timed in turns with the file."""
    operators: tuple[Row, ...]
    """In the order of execution; their times add up to run_ms."""
    only_in_baseline: tuple[Row, ...]
    """Operators that the baseline alone executes; ms is 0."""
    fused: tuple[Fused, ...]
    """What stands in the file and is computed by another operator, or not at all."""
    conversions: int
    """QuantizeLinear and DequantizeLinear that stand in the file."""
    conversions_executed: int
    """Those of them that are executed; the others vanish into integer kernels."""
    conversions_ms: float
    """What they cost."""
    advice: tuple[Advice, ...]
    threads: int
    cpu: str


def explain_file(path: Path, baseline: Path | None, config: VerifyConfig) -> Explanation:
    """Return where the time of the file ``path`` goes; an .ort file needs its .onnx file beside it.

    Args:
        path: the file, of this tool.
        baseline: a float file to compare it with, layer by layer by their names.
        config: threads of a run, and the seconds to time both files without profiling.

    Raises:
        ConfigError: more threads than cores.
        GraphError: a file is missing, does not load or breaks the contract.
    """
    check_limits(config)
    paths = [path] if baseline is None else [path, baseline]
    files = {str(each): _artifact(each) for each in paths}
    sources = {str(each): _source(each) for each in paths}
    shape = image_shape(open_session(files[str(path)], threads=1))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    blocks, _ = time_models(
        files, image, rng, threads=config.threads, seconds=config.timing_seconds
    )
    run_ms = {name: summarize(times).p50_ms for name, times in blocks.items()}
    profiles = {
        name: named(
            profile_operators(file, image, run_ms[name], threads=config.threads), sources[name]
        )
        for name, file in files.items()
    }
    own, source = profiles[str(path)], sources[str(path)]
    theirs = [] if baseline is None else profiles[str(baseline)]
    rows = _rows(own, theirs)
    conversions = [row for row in rows if row.operator in CONVERSIONS]
    names = [name for name, _ in own]
    return Explanation(
        path=str(path),
        run_ms=run_ms[str(path)],
        baseline=None if baseline is None else str(baseline),
        baseline_ms=None if baseline is None else run_ms[str(baseline)],
        operators=rows,
        only_in_baseline=tuple(_alone(name, entry) for name, entry in theirs if name not in names),
        fused=fused(names, source),
        conversions=sum(node.op_type in CONVERSIONS for node in source.graph.node),
        conversions_executed=len(conversions),
        conversions_ms=sum(row.ms for row in conversions),
        advice=advise(rows, source),
        threads=config.threads,
        cpu=describe_machine().cpu,
    )


def _rows(
    own: Sequence[tuple[str, OperatorTime]], theirs: Sequence[tuple[str, OperatorTime]]
) -> tuple[Row, ...]:
    known, quantized = dict(theirs), any(entry.integer for _, entry in own)
    return tuple(
        Row(
            name=name,
            operator=entry.operator,
            integer=entry.integer,
            ms=entry.ms,
            baseline_operator=known[name].operator if name in known else None,
            baseline_ms=known[name].ms if name in known else None,
            float_reason=reason_for_float(entry.operator)
            if quantized and not entry.integer and entry.operator not in CONVERSIONS
            else None,
        )
        for name, entry in own
    )


def _alone(name: str, entry: OperatorTime) -> Row:
    return Row(
        name=name,
        operator="",
        integer=False,
        ms=0.0,
        baseline_operator=entry.operator,
        baseline_ms=entry.ms,
        float_reason=None,
    )


def _artifact(path: Path) -> Artifact:
    if not path.is_file():
        raise GraphError(f"{path} is not a file.")
    return Artifact.of(path)


def _source(path: Path) -> ModelProto:
    """Return the graph that knows the names; of an .ort file, that of the .onnx file beside it."""
    return read_model(path.with_suffix(".onnx") if path.suffix == ".ort" else path)
