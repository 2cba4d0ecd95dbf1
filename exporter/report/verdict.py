"""The report in words: what was gained, what was lost, and what to try where a gate failed."""

from __future__ import annotations

import math
from pathlib import Path

from exporter.report.instruction_sets import lost_on
from exporter.report.model import BuildReport, Gate, ModelReport, NotMeasured

_INT8_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}

NAMES = {"dense": "dense float", "small": "pruned float", "int8": "int8"}
"""What a reader calls the models, by their keys."""
Z95 = 1.96
"""97.5 % quantile of the normal distribution."""
RUNS_FOR_P90 = 100
"""So that ten runs lie beyond the 90th percentile."""
SAME_TIME = 1.02
"""Ratio of two times below which they are called the same."""


def verdict(report: BuildReport) -> str:
    """Return a sentence on what ships against dense float: speed, size and accuracy."""
    if report.shipped == "dense":
        return "The dense float model ships as it is: nothing was pruned, nothing is quantized."
    flips = report.flips
    changed = flips.right_to_wrong + flips.wrong_to_right + flips.wrong_to_wrong
    low, high = report.speedup_ci
    bigger = report.size_ratio > 1
    return (
        f"{NAMES[report.shipped]} is {_speed_beyond_noise(report)} "
        f"(95 % CI {times(low)} to {times(high)}), "
        f"{times(report.size_ratio if bigger else 1 / report.size_ratio)}x "
        f"{'larger' if bigger else 'smaller'}, {_accuracy(report.drop_points)} "
        f"({changed:,} of {report.models.dense.total:,} predictions changed)."
    )


def worst_class(report: BuildReport) -> str:
    """Return which class lost most, and how much."""
    worst = report.worst_class
    return (
        f"{worst.name}, from {worst.before:.2f} % to {worst.after:.2f} % ({worst.count:,} images)"
    )


def outcome(gate: Gate) -> str:
    """Return what was measured and what was allowed, without the gate's name."""
    if isinstance(gate.measured, NotMeasured):
        return f"not measured: {gate.measured.not_measured}"
    sure = f" with {100 * gate.confidence:g} % confidence" if gate.confidence else ""
    if gate.unit == "points":
        least = "at most " if gate.measured >= 0 else "at least "
        change = f"{abs(gate.measured):.2f} points {'lost' if gate.measured >= 0 else 'gained'}"
        return f"{least if sure else ''}{change}{sure}, a loss of {gate.limit:.4g} is allowed"
    if gate.unit in ("kB", "ms"):
        measured = f"{gate.measured:.1f}" if gate.unit == "kB" else f"{gate.measured:.3f}"
        return f"{measured} {gate.unit}, at most {gate.limit:g} is wanted"
    if gate.measured == 1:
        return f"no faster beyond the noise{sure}, at least {gate.limit:.4g}x is wanted"
    least = "at least " if sure else ""
    return f"{least}{_speed(gate.measured)}{sure}, at least {gate.limit:.4g}x is wanted"


def columns(report: BuildReport) -> tuple[tuple[str, ModelReport], ...]:
    """Return the compared models with the names a reader knows them by."""
    models = report.models
    found = (("dense", models.dense), ("small", models.small), ("int8", models.int8))
    return tuple((NAMES[key], model) for key, model in found if model is not None)


def facts(model: ModelReport) -> tuple[tuple[str, str], ...]:
    """Return the rows of a model's column: what is told, and its value with the unit."""
    return (
        ("accuracy (top-1)", f"{model.top1:.2f} %"),
        (f"correct of {model.total:,}", f"{model.correct:,}"),
        ("file size", size(model.bytes)),
        ("time, typical (p50)", milliseconds(model.p50_ms)),
        ("time, slow (p90)", slow_time(model)),
        ("parameters", f"{model.parameters:,}"),
        ("multiply-adds", f"{model.macs / 1e6:,.2f} M"),
    )


def advice(report: BuildReport) -> tuple[str, ...]:
    """Return what to try, one sentence each; empty if every gate was met."""
    failed = {gate.name: gate for gate in report.gates if not gate.passed}
    tips: list[str] = []
    if "max-drop" in failed:
        tips += _advice_on_drop(report, failed["max-drop"])
    if "min-speedup" in failed:
        tips += _advice_on_speed(report, failed["min-speedup"])
    if "max-ms" in failed:
        tips.append(
            "The times of single layers promised less: measure again on a quiet machine, or aim "
            "lower with --max-ms."
        )
    if any(name.startswith("drop-") for name in failed):
        tips += lost_on(report.instruction_sets)
    return tuple(tips)


def remarks(report: BuildReport) -> tuple[str, ...]:
    """Return sentences on what the gates do not tell; empty where there are none."""
    small, int8 = report.models.small, report.models.int8
    found = list(report.warnings)
    if _learned_nothing(report):
        found.append(
            f"The dense float model is no better than always answering the most frequent class "
            f"({report.majority_top1:.2f} %): it has learned nothing, and keeping that proves "
            "nothing. Train longer (--epochs) or with a lower --learning-rate, and look at the "
            "labels."
        )
    if small is not None and report.pruning is not None and report.pruning.unit == "weights":
        downloads = f"pruned float {size(small.bytes)}, {size(small.gzip_bytes)} by gzip, "
        downloads += f"{size(small.zstd_bytes)} by zstd"
        if int8 is not None:
            downloads += f"; int8 {size(int8.bytes)}, {size(int8.gzip_bytes)}, "
            downloads += size(int8.zstd_bytes)
        found.append(
            f"{100 * report.pruning.removed_share:.1f} % of the weights are zero. That makes the "
            f"download smaller, and no run faster: {downloads}."
        )
    if small is not None and int8 is not None and small.p50_ms <= SAME_TIME * int8.p50_ms:
        found.append(
            f"The pruned float model is as fast as int8 ({milliseconds(small.p50_ms)} against "
            f"{milliseconds(int8.p50_ms)}): int8 only makes the file smaller here. Where accuracy "
            "counts more, ship it: --target cpu-fp32."
        )
    return tuple(found)


def times(value: float) -> str:
    """Return a factor with three digits or so."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def size(count: int) -> str:
    """Return a number of bytes in the unit that suits it, powers of 1000."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.2f} MB"


def milliseconds(value: float) -> str:
    """Return a time to the microsecond, or with three digits where it is long."""
    return f"{value:.3f} ms" if value < 10 else f"{value:.1f} ms"


def factor(value: float) -> str:
    """Return a factor with the digits that tell it from 1."""
    return f"{value:.3f}x" if value < 1.1 else f"{times(value)}x"


def slow_time(model: ModelReport) -> str:
    """Return the time that 90 % of the runs stay below, where there were enough of them."""
    return milliseconds(model.p90_ms) if model.runs >= RUNS_FOR_P90 else "too few runs"


def _learned_nothing(report: BuildReport) -> bool:
    """Whether chance alone could have given the dense model's lead over the most frequent class."""
    dense = report.models.dense
    share = report.majority_top1 / 100
    by_chance = math.sqrt(share * (1 - share) / dense.total)
    return dense.top1 / 100 <= share + Z95 * by_chance


def _speed_beyond_noise(report: BuildReport) -> str:
    if report.evidence is None or report.evidence.latency.beyond_noise:
        return _speed(report.speedup)
    noise = report.evidence.latency.noise
    return (
        f"as fast as dense float: {factor(report.speedup)} is inside the noise of {factor(noise)}"
    )


def _speed(speedup: float) -> str:
    return f"{times(speedup)}x faster" if speedup >= 1 else f"{times(speedup)}x the speed"


def _accuracy(drop: float) -> str:
    if drop == 0:
        return "equally accurate"
    return f"{abs(drop):.2f} points {'less' if drop > 0 else 'more'} accurate"


def _advice_on_drop(report: BuildReport, gate: Gate) -> list[str]:
    models = report.models
    drop = report.drop_points
    before = models.dense if models.small is None else models.small
    pruning = models.dense.top1 - before.top1
    quantizing = before.top1 - report.shipped_model.top1
    gap = 0.0 if report.kernel_gap is None else report.kernel_gap.drop_points
    tips = []
    if drop > 0 and gap >= drop / 2:
        tips.append(
            f"Computed in float, the same file is {gap:.2f} points "
            "better: this CPU's integer kernels saturate. Use --target cpu-int8-avx2."
        )
    elif drop > 0 and quantizing >= drop / 2:
        tips.append(
            f"Quantizing costs {quantizing:.2f} points: try --recover auto, another range method "
            "(--method) or more --calibration-images."
        )
    if drop > 0 and pruning >= drop / 2:
        tips.append(
            f"Pruning costs {pruning:.2f} points: remove less (--prune) or fine-tune longer "
            "(--finetune-epochs)."
        )
    if gate.confidence and drop <= gate.limit:
        tips.append(
            "The measured loss is within the limit, the end of its confidence interval is not: "
            "more test images would narrow it."
        )
    if not isinstance(gate.measured, NotMeasured):
        tips.append(f"Or accept the loss: --max-drop {math.ceil(gate.measured * 10) / 10:g}.")
    return tips


def _advice_on_speed(report: BuildReport, gate: Gate) -> list[str]:
    tips = []
    low, high = report.speedup_ci
    if low <= gate.limit <= high:
        tips.append(
            "The limit lies inside the confidence interval: measure longer (--timing-seconds) "
            "on a quiet machine."
        )
    if report.models.int8 is None:
        tips.append("Remove more (--prune), or quantize as well: --target cpu-int8.")
    else:
        found = report.machine.instruction_sets
        if not isinstance(found, NotMeasured) and not _INT8_DOT_PRODUCTS & set(found):
            tips.append(
                "This CPU has no int8 dot product (VNNI, dotprod); int8 gains little on it."
            )
        tips.append("Remove more (--prune), or train a wider network: int8 pays off in big layers.")
        # What is optimized ahead can no longer be inspected; what it was made of lies beside it.
        file = Path(report.models.int8.path).with_suffix(".onnx")
        tips.append(f"Look for operators left in float: exporter inspect {file}")
    if not isinstance(gate.measured, NotMeasured):
        accepted = math.floor(gate.measured * 10) / 10
        tips.append(f"Or accept the speed: --min-speedup {accepted:g}.")
    return tips
