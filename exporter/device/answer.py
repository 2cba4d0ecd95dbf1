"""What ``deploy/run.py`` answers as JSON, read with distrust and put into the report's terms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from exporter.errors import DeviceError
from exporter.report.device import DeviceReport
from exporter.report.not_measured import NotMeasured

if TYPE_CHECKING:
    from pydantic import ValidationError

ANSWER_VERSION = 1
"""Of the runner's JSON document."""
MAX_BYTES = 2**24
"""Of such a document; a thousand classified images take a tenth of a megabyte."""
UNREADABLE = "the system does not tell"
NOT_ASKED = "not asked for"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The device, as its system describes it."""

    name: str
    machine: str
    processor: str
    isas: tuple[str, ...]
    python: str
    onnxruntime: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Golden:
    """The golden outputs there."""

    images: int
    agree: int
    difference: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Right answers on images that were given to the device."""

    top1: float
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """Heat and clock at one moment."""

    temperature_c: float | None
    frequency_mhz: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """Times of one image, and the conditions."""

    runs: int
    median_ms: float
    median_ci_ms: tuple[float, float] | None
    p90_ms: float
    load_ms: float
    threads: int
    peak_memory_mb: float | None
    governor: str | None
    before: Conditions
    after: Conditions


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceAnswer:
    """The document; what was not reached is None."""

    answer_version: int
    passed: bool
    error: str | None
    model_sha256: str | None
    machine: Machine | None
    golden: Golden | None
    accuracy: Accuracy | None
    latency: Latency | None


def read_answer(path: Path) -> DeviceAnswer:
    """Return the answer in a file; raises DeviceError if it is none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DeviceError(f"{path} has more than the limit of {MAX_BYTES:,} bytes.")
        text = path.read_bytes()
    except OSError as error:
        raise DeviceError(f"Cannot read {path}: {error.strerror}.") from error
    return parse_answer(text, str(path))


def parse_answer(text: bytes, source: str) -> DeviceAnswer:
    """Return the answer in a JSON document; raises DeviceError, which names ``source``."""
    from pydantic import TypeAdapter, ValidationError

    try:
        answer = TypeAdapter(DeviceAnswer).validate_json(text)
    except ValidationError as error:
        raise DeviceError(
            f"{source} is not what run.py writes with --out: {_reason(error)}."
        ) from error
    if answer.answer_version != ANSWER_VERSION:
        raise DeviceError(
            f"{source} has version {answer.answer_version}, this program reads {ANSWER_VERSION}. "
            "Use the run.py of a bundle that it made."
        )
    return answer


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def device_report(answer: DeviceAnswer, source: str) -> DeviceReport:
    """Return the answer in the report's terms; raises DeviceError if nothing was measured."""
    machine, golden = answer.machine, answer.golden
    accuracy, latency = answer.accuracy, answer.latency
    if machine is None or golden is None:
        raise DeviceError(f"{source} holds no measurement: {answer.error or 'it is empty'}")
    untimed = NotMeasured(not_measured=NOT_ASKED if answer.passed else "the check failed before")
    return DeviceReport(
        name=machine.name or "unnamed",
        cpu=machine.processor,
        architecture=machine.machine,
        instruction_sets=machine.isas,
        onnxruntime=machine.onnxruntime,
        python=machine.python,
        passed=answer.passed,
        error=answer.error,
        golden_images=golden.images,
        golden_agree=golden.agree,
        golden_difference=_or(golden.difference, "it is not a finite number"),
        top1=accuracy.top1 if accuracy else untimed,
        images=accuracy.total if accuracy else 0,
        p50_ms=latency.median_ms if latency else untimed,
        p50_ci_ms=_or(latency.median_ci_ms, "too few blocks of runs") if latency else untimed,
        p90_ms=latency.p90_ms if latency else untimed,
        runs=latency.runs if latency else 0,
        threads=latency.threads if latency else untimed,
        load_ms=latency.load_ms if latency else untimed,
        peak_memory_mb=_or(latency.peak_memory_mb, UNREADABLE) if latency else untimed,
        governor=_or(latency.governor, UNREADABLE) if latency else untimed,
        temperature_c=_both(latency.before.temperature_c, latency.after.temperature_c)
        if latency
        else untimed,
        frequency_mhz=_both(latency.before.frequency_mhz, latency.after.frequency_mhz)
        if latency
        else untimed,
    )


def _or(value: T | None, reason: str) -> T | NotMeasured:
    return NotMeasured(not_measured=reason) if value is None else value


def _both(before: float | None, after: float | None) -> tuple[float, float] | NotMeasured:
    if before is None or after is None:
        return NotMeasured(not_measured=UNREADABLE)
    return before, after
