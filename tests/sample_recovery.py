"""A search for a smaller drop in which every kind of row occurs."""

from __future__ import annotations

from exporter.report.not_measured import NotMeasured
from exporter.report.recovery import (
    LayerSensitivityReport,
    RecoveryAttempt,
    RecoveryReport,
    RecoveryResult,
)


def _result(correct: int, lost: int, gained: int, error: float, method: str) -> RecoveryResult:
    return RecoveryResult(
        method=method,
        correct=correct,
        top1=correct / 5,
        drop_points=(lost - gained) / 5,
        drop_ci=((lost - gained) / 5 - 0.4, (lost - gained) / 5 + 0.6),
        lost=lost,
        gained=gained,
        changed=lost + gained + 1,
        logit_error=error,
    )


RECOVERY = RecoveryReport(
    budget_points=0.5,
    within_budget=True,
    images=500,
    image_points=0.2,
    detectable_points=1.57,
    float_top1=91.2,
    stopped="stopped at fallback: 0.20 points lost, a loss of 0.5 is allowed.",
    attempts=(
        RecoveryAttempt(
            rung="ranges",
            what="minmax",
            seconds=3.25,
            cached=False,
            result=_result(430, 30, 4, 0.21, "minmax"),
            gain_points=None,
            kept=True,
        ),
        RecoveryAttempt(
            rung="ranges",
            what="the best of 4 methods",
            seconds=0.01,
            cached=True,
            result=_result(447, 14, 5, 0.15, "mse"),
            gain_points=3.4,
            kept=True,
        ),
        RecoveryAttempt(
            rung="corrections",
            what="bias",
            seconds=2.5,
            cached=False,
            result=_result(446, 14, 4, 0.14, "mse"),
            gain_points=-0.2,
            kept=False,
        ),
        RecoveryAttempt(
            rung="corrections",
            what="equalize",
            seconds=0.5,
            cached=False,
            result=NotMeasured(not_measured="there is nothing in this network | to change."),
            gain_points=None,
            kept=False,
        ),
        RecoveryAttempt(
            rung="fallback",
            what="2 in float: stem|0, block1.conv",
            seconds=1.75,
            cached=False,
            result=_result(455, 3, 2, 0.04, "mse"),
            gain_points=1.6,
            kept=True,
        ),
    ),
    float_layers=("stem|0", "block1.conv"),
    float_macs_share=0.125,
    time_ratio=1.18,
    time_ratio_ci=(1.15, 1.22),
    sensitivity_images=256,
    sensitivity=(
        LayerSensitivityReport(
            layer="block1.conv",
            operator="Conv",
            macs_share=0.1,
            kl=0.052,
            weights_kl=0.004,
            flips=9,
        ),
        LayerSensitivityReport(
            layer="stem|0", operator="Conv", macs_share=0.025, kl=0.011, weights_kl=0.01, flips=3
        ),
    ),
)
