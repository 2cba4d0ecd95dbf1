"""Times, their intervals and their noise, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.report.evidence import ColdStart, LatencyEvidence, SettingTimes
from exporter.report.markdown_table import table
from exporter.report.model import BuildReport, ModelReport, NotMeasured
from exporter.report.verdict import NAMES, columns, factor, milliseconds, slow_time


def latency_lines(report: BuildReport) -> list[str]:
    """Return the times of each model, and how they compare with the noise."""
    rows = (
        [
            name,
            milliseconds(model.p50_ms),
            _interval(model),
            slow_time(model),
            _slowest(model),
        ]
        for name, model in columns(report)
    )
    lines = table(["model", "p50", "95 % CI", "p90", "p99"], rows)
    return lines + (_noise(report.evidence.latency) if report.evidence else [])


def _interval(model: ModelReport) -> str:
    if model.p50_ci_ms is None:
        return "not measured"
    low, high = model.p50_ci_ms
    return f"{low:.4g} to {high:.4g} ms"


def _slowest(model: ModelReport) -> str:
    if isinstance(model.p99_ms, float):
        return milliseconds(model.p99_ms)
    return "too few runs"


def _noise(found: LatencyEvidence) -> list[str]:
    low, high = found.same_file_ratio_ci
    place = "outside" if found.beyond_noise else "inside"
    lines = [
        "",
        (
            f"- Noise floor: {factor(found.noise)}. What ships, opened and timed twice as if it "
            f"were two models, gave {found.same_file_ratio:.3f} (95 % CI {low:.3f} to "
            f"{high:.3f}). The speed-up is {place} of that."
        ),
    ]
    if found.settings:
        lines += ["", *_settings(found.settings)]
    if found.starts:
        lines += ["", *_starts(found.starts)]
    return lines


def _settings(settings: Sequence[SettingTimes]) -> list[str]:
    rows = (
        [
            f"threads {entry.threads}, batch {entry.batch}",
            f"{entry.dense_ms:.3f} ms",
            f"{entry.shipped_ms:.3f} ms",
            (
                f"{entry.speedup:.2f}x ({entry.speedup_ci[0]:.2f} to {entry.speedup_ci[1]:.2f})"
                if entry.beyond_noise
                else "none beyond the noise"
            ),
            factor(entry.noise),
            f"{1000 * entry.batch / entry.shipped_ms:,.0f}",
        ]
        for entry in settings
    )
    header = [
        "setting",
        "dense float",
        "shipped",
        "speed-up (95 % CI)",
        "noise",
        "images/s shipped",
    ]
    return table(header, rows)


def _starts(starts: Sequence[ColdStart]) -> list[str]:
    rows = (
        [
            NAMES[entry.model],
            f"{entry.session_ms:.1f} ms",
            f"{entry.first_run_ms:.2f} ms",
            _megabytes(entry.peak_bytes),
            _megabytes(entry.added_bytes),
        ]
        for entry in starts
    )
    header = ["cold start", "load", "first image", "peak memory", "of it by the model"]
    return table(header, rows)


def _megabytes(value: int | NotMeasured) -> str:
    return "not measured" if isinstance(value, NotMeasured) else f"{value / 1e6:.1f} MB"
