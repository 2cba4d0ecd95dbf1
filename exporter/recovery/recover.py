"""``--recover auto``: an int8 model that is as accurate on validation images as asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from exporter.artifacts import Cache
from exporter.data.splits import Split
from exporter.graph.model import OnnxModel
from exporter.quantization.quantize import QuantizedModel
from exporter.recovery.effect import logit_error
from exporter.recovery.ladder import Judge, Ladder, Rung, Solution, climb
from exporter.recovery.rungs import Rungs
from exporter.recovery.sensitivity import QuantizationSensitivity
from exporter.report.recovery import LayerSensitivityReport, RecoveryReport, RecoveryResult
from exporter.verification.accuracy import accuracy, compare
from exporter.verification.detectable_drop import detectable_drop
from exporter.verification.latency import time_models
from exporter.verification.paired import Ratio, paired_ratio
from exporter.verification.predict import predict

TIMING_SECONDS = 1.0
"""Time spent on what layers in float cost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovered:
    """The best that was found, and how."""

    solution: Solution
    report: RecoveryReport


def recover(rungs: Rungs, budget: float, table: Mapping[str, Rung] | None = None) -> Recovered:
    """Climb the ladder until int8 loses at most ``budget`` points against its own float model.

    Args:
        rungs: what is quantized, with which images.
        budget: accepted drop of top-1 on validation images, in percentage points.
        table: other rungs than all of ``rungs``.

    Raises:
        GraphError, CoverageError: the network cannot be quantized at all.
    """
    validation = rungs.data.validation
    judge = judge_on(rungs.cache, rungs.model, validation)
    ladder = Ladder(judge=judge, budget=budget, runs=rungs.cache.runs)
    stopped = climb(ladder, table or rungs.table)
    best, scan = ladder.best, rungs.sensitivity
    flipped = best.result.lost + best.result.gained
    fallen = tuple(n for n in best.solution.float_layers if n not in rungs.float_layers)
    ratio = (
        time_ratio(rungs.in_integers(best.solution), best.solution, validation) if fallen else None
    )
    return Recovered(
        solution=best.solution,
        report=RecoveryReport(
            budget_points=budget,
            within_budget=ladder.enough(best),
            images=validation.count,
            image_points=100 / validation.count,
            detectable_points=100 * detectable_drop(flipped / validation.count, validation.count),
            float_top1=best.result.top1 + best.result.drop_points,
            stopped=stopped,
            attempts=tuple(ladder.attempts),
            float_layers=fallen,
            float_macs_share=_macs_share(scan, fallen),
            time_ratio=None if ratio is None else ratio.value,
            time_ratio_ci=None if ratio is None else (ratio.low, ratio.high),
            sensitivity_images=scan.images if scan else 0,
            sensitivity=_layers(scan),
        ),
    )


def judge_on(cache: Cache, model: OnnxModel, validation: Split) -> Judge:
    """Return what compares int8 models with the float ``model`` on ``validation`` images."""
    _, labels = validation.arrays()
    before = np.load(cache.run(predict, model.file, validation).logits.path)

    def judge(int8: QuantizedModel) -> RecoveryResult:
        after = np.load(cache.run(predict, int8.file, validation).logits.path)
        counted, change = accuracy(after, labels), compare(before, after, labels)
        return RecoveryResult(
            method=int8.method,
            correct=counted.correct,
            top1=counted.top1,
            drop_points=change.drop_points,
            drop_ci=change.drop_ci,
            lost=change.flips.right_to_wrong,
            gained=change.flips.wrong_to_right,
            changed=change.changed,
            logit_error=logit_error(before, after),
        )

    return judge


def time_ratio(before: Solution, after: Solution, images: Split) -> Ratio:
    """Return how many times as long ``after`` takes for one image, both timed in turns."""
    pixels, _ = images.arrays()
    files = {"before": before.int8.file, "after": after.int8.file}
    rng = np.random.default_rng(0)
    blocks, _ = time_models(files, np.array(pixels[0]), rng, threads=1, seconds=TIMING_SECONDS)
    middles = {name: np.median(times, axis=1) for name, times in blocks.items()}
    return paired_ratio(middles["after"], middles["before"], rng)


def _layers(scan: QuantizationSensitivity | None) -> tuple[LayerSensitivityReport, ...]:
    if scan is None:
        return ()
    return tuple(
        LayerSensitivityReport(
            layer=found.layer,
            operator=found.operator,
            macs_share=_macs_share(scan, (found.layer,)),
            kl=found.both.kl,
            weights_kl=found.weights.kl,
            flips=found.both.flips,
        )
        for found in scan.ranked
    )


def _macs_share(scan: QuantizationSensitivity | None, layers: tuple[str, ...]) -> float:
    if scan is None or not layers:
        return 0.0
    macs = {found.layer: found.macs for found in scan.layers}
    return sum(macs[name] for name in layers) / sum(macs.values())
