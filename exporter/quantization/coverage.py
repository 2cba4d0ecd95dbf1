"""Does ONNX Runtime execute the quantized file with integer kernels?"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from exporter.contract import INPUT_NAME, InputContract
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
LAYERS = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
"""Of these, the ones that may be left in float on purpose."""
_ON_PURPOSE = "was left in float on purpose"
PROBE_IMAGES = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """The operators ONNX Runtime really executes, counted."""

    integer: Mapping[str, int]
    floating: Mapping[str, int]
    """Conversions between integer and float included."""
    reasons: Mapping[str, str]
    """Why an operator stays float, by operator; worded to follow its name. None for conversions."""


def measure_coverage(
    path: Path, contract: InputContract, float_layers: Collection[str] = ()
) -> Coverage:
    """Load and run the quantized file ``path`` and return what was executed.

    Raises:
        GraphError: it cannot be loaded or run, or its outputs are not finite.
        CoverageError: a convolution, matrix product, addition, concatenation or pool runs in float
            that is not among ``float_layers``, or one of those does not.
    """
    with tempfile.TemporaryDirectory(prefix="coverage-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        shape = (PROBE_IMAGES, contract.height, contract.width, contract.channels)
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        try:
            session = open_and_write(str(path), str(optimized))
            outputs = session.run(None, {INPUT_NAME: pixels})
        except Exception as error:  # ONNX Runtime's exceptions have no base of their own
            detail = " ".join(str(error).split())
            raise GraphError(f"ONNX Runtime cannot run the quantized file: {detail}") from error
        operators = executed_operators(onnx.load(optimized), onnx.load(path))
    if not all(np.isfinite(values).all() for values in outputs):
        raise GraphError("The quantized file gives outputs that are not finite.")
    check_integer(operators, float_layers)
    return counted(operators)


def check_integer(operators: Iterable[Executed], float_layers: Collection[str] = ()) -> None:
    """Raise CoverageError that names every operator which should run as integer and doesn't.

    The layers named ``float_layers`` must not.
    """
    in_float = [entry for entry in operators if not entry.integer]
    as_asked = {entry.name for entry in in_float if entry.operator in LAYERS}.intersection(
        float_layers
    )
    rounded = [name for name in float_layers if name not in as_asked]
    if rounded:
        raise CoverageError(f"Not executed in float as they should be: {', '.join(rounded)}.")
    floats = [
        entry
        for entry in in_float
        if entry.operator in ALWAYS_INTEGER and entry.name not in as_asked
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
            operator: _ON_PURPOSE if operator in LAYERS else reason_for_float(operator)
            for operator in sorted(floating)
            if operator not in CONVERSIONS
        },
    )
