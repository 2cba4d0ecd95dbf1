"""Solutions and verdicts for the ladder without networks behind them."""

from __future__ import annotations

from typing import cast

from exporter.errors import GraphError
from exporter.graph.model import OnnxModel
from exporter.quantization.calibrate import Calibrated
from exporter.quantization.quantize import QuantizedModel
from exporter.recovery.ladder import Ladder, Solution
from exporter.report.recovery import RecoveryResult

IMAGES = 200
FLOAT = 190


def result(correct: int, error: float = 0.1) -> RecoveryResult:
    drop = 100 * (FLOAT - correct) / IMAGES
    return RecoveryResult(
        method="minmax",
        correct=correct,
        top1=100 * correct / IMAGES,
        drop_points=drop,
        drop_ci=(drop - 1, drop + 1),
        lost=max(0, FLOAT - correct),
        gained=max(0, correct - FLOAT),
        changed=abs(FLOAT - correct),
        logit_error=error,
    )


def solution(number: int, float_layers: tuple[str, ...] = ()) -> Solution:
    """Return a solution whose int8 model is nothing but a number."""
    return Solution(
        model=cast(OnnxModel, None),
        ranges=cast(Calibrated, None),
        int8=cast(QuantizedModel, number),
        float_layers=float_layers,
    )


def ladder(budget: float, *results: RecoveryResult | None) -> Ladder:
    """Return a ladder that judges solution number i by ``results[i]``, or refuses it where None."""

    def judge(int8: QuantizedModel) -> RecoveryResult:
        found = results[cast(int, int8)]
        if found is None:
            raise GraphError("no such kernel.")
        return found

    return Ladder(judge=judge, budget=budget)
