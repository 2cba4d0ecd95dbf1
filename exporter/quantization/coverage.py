"""Does ONNX Runtime execute the quantized file with integer kernels?"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from exporter.contract import INPUT_NAME, OUTPUT_NAME, InputContract
from exporter.errors import CoverageError, GraphError
from exporter.graph.execution import CONVERSIONS, Executed, executed_operators
from exporter.graph.optimize_file import open_and_write
from exporter.graph.reasons import reason_for_float

ALWAYS_INTEGER = {
    "Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "Add", "Concat",
    "MaxPool", "AveragePool", "GlobalAveragePool",
}  # fmt: skip
"""Operators that must not run in float: they are the work, and integer kernels exist for them.
Others, for which there is no such kernel or which cost little, stay float and are listed."""
PROBE_IMAGES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """The operators ONNX Runtime really executes, counted."""

    integer: Mapping[str, int]
    floating: Mapping[str, int]
    """Conversions between integer and float included."""
    reasons: Mapping[str, str]
    """Why an operator stays float, by operator; worded to follow its name. None for conversions."""


def measure_coverage(path: Path, contract: InputContract) -> Coverage:
    """Load and run the quantized file ``path`` and return what was executed.

    Raises:
        GraphError: it cannot be loaded or run, or its logits are not finite.
        CoverageError: a convolution, matrix product, addition, concatenation or pool runs in float.
    """
    with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        shape = (PROBE_IMAGES, contract.height, contract.width, contract.channels)
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        try:
            session = open_and_write(str(path), str(optimized))
            logits = session.run([OUTPUT_NAME], {INPUT_NAME: pixels})[0]
        except Exception as error:  # ONNX Runtime's exceptions have no base of their own
            detail = " ".join(str(error).split())
            raise GraphError(f"ONNX Runtime cannot run the quantized file: {detail}") from error
        operators = executed_operators(onnx.load(optimized), onnx.load(path))
    if not np.isfinite(logits).all():
        raise GraphError("The quantized file gives logits that are not finite.")
    check_integer(operators)
    return counted(operators)


def check_integer(operators: Iterable[Executed]) -> None:
    """Raise CoverageError that names every operator which should run as integer and doesn't."""
    floats = [
        entry for entry in operators if not entry.integer and entry.operator in ALWAYS_INTEGER
    ]
    if floats:
        listed = "; ".join(
            f"{entry.name or 'a node without name'}: {entry.operator} "
            f"{reason_for_float(entry.operator)}"
            for entry in floats
        )
        raise CoverageError(f"Not executed as integer kernels: {listed}.")


def counted(operators: Iterable[Executed]) -> Coverage:
    """Return how often each operator occurs, in order of name, and why some stay float."""
    operators = list(operators)
    integer = Counter(entry.operator for entry in operators if entry.integer)
    floating = Counter(entry.operator for entry in operators if not entry.integer)
    return Coverage(
        integer=dict(sorted(integer.items())),
        floating=dict(sorted(floating.items())),
        reasons={
            operator: reason_for_float(operator)
            for operator in sorted(floating)
            if operator not in CONVERSIONS
        },
    )
