"""What the bundle's own runner found on other machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.report.not_measured import DESCRIBED, NotMeasured


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceReport:
    """The shipped file on one device, checked and timed there by ``run.py``."""

    __pydantic_config__ = DESCRIBED

    name: str
    """The device's name in its network."""
    cpu: str
    """Name of the processor or of the board."""
    architecture: str
    """As the system calls it: x86_64, aarch64."""
    instruction_sets: tuple[str, ...]
    """Those that int8 kernels are chosen by, named as in targets."""
    onnxruntime: str
    """Version there."""
    python: str
    """Version there."""
    passed: bool
    """Whether every file was as shipped and the golden outputs were met."""
    error: str | None
    """What was wrong; null if nothing was."""
    golden_images: int
    """Golden images that were run."""
    golden_agree: int
    """Those for which the same class won as where the bundle was made."""
    golden_difference: float | NotMeasured
    """Largest absolute difference of a logit on them."""
    top1: float | NotMeasured
    """Images given to the device that it classified correctly, in percent."""
    images: int
    """Those images; 0 where none were given."""
    p50_ms: float | NotMeasured
    """Median time of one image, in milliseconds."""
    p50_ci_ms: tuple[float, float] | NotMeasured
    """95 % confidence interval of the median over blocks of runs, in milliseconds."""
    p90_ms: float | NotMeasured
    """Time that 90 % of the runs stay below, in milliseconds."""
    runs: int
    """Timed runs; 0 where nothing was timed."""
    threads: int | NotMeasured
    """Threads of ONNX Runtime while timing."""
    load_ms: float | NotMeasured
    """Time to load the model, in milliseconds."""
    peak_memory_mb: float | NotMeasured
    """Most memory that the runner held, Python and libraries included, in 10^6 bytes."""
    governor: str | NotMeasured
    """Rule by which the clock rate was set."""
    temperature_c: tuple[float, float] | NotMeasured
    """Hottest sensor before and after timing, in degrees Celsius."""
    frequency_mhz: tuple[float, float] | NotMeasured
    """Clock rate of the cores used, before and after timing."""


COLUMNS = ("device", "golden", "top-1", "p50", "p90", "threads", "temperature", "clock")
"""Headings of ``device_rows``."""


def device_rows(devices: Sequence[DeviceReport]) -> list[tuple[str, ...]]:
    """Return one row for each device."""
    return [
        (
            device.name,
            f"{device.golden_agree} of {device.golden_images}",
            _shown(device.top1, "{:.2f} %"),
            _shown(device.p50_ms, "{:.3f} ms"),
            _shown(device.p90_ms, "{:.3f} ms"),
            _shown(device.threads, "{}"),
            _before_and_after(device.temperature_c, "{:.0f}", "°C"),
            _before_and_after(device.frequency_mhz, "{:.0f}", "MHz"),
        )
        for device in devices
    ]


def device_notes(devices: Sequence[DeviceReport]) -> list[str]:
    """Return a line on each device: what it is, and what failed there."""
    return [
        f"{device.name}: {device.cpu} ({device.architecture}: "
        f"{', '.join(device.instruction_sets) or 'instruction sets unknown'}), "
        f"onnxruntime {device.onnxruntime}, Python {device.python}."
        + ("" if device.passed else f" FAILED: {device.error}")
        for device in devices
    ]


def _shown(value: float | NotMeasured, form: str) -> str:
    return "not measured" if isinstance(value, NotMeasured) else form.format(value)


def _before_and_after(values: tuple[float, float] | NotMeasured, form: str, unit: str) -> str:
    if isinstance(values, NotMeasured):
        return "unknown"
    before, after = map(form.format, values)
    return f"{after} {unit}" if before == after else f"{before} to {after} {unit}"
