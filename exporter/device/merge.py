"""Puts what devices answered into the report of the build that made their bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.device.answer import device_report, read_answer
from exporter.errors import DeviceError, OutputError
from exporter.packing.contents import MANIFEST
from exporter.packing.place import write_file
from exporter.report.files import report_files
from exporter.report.model import BuildReport

if TYPE_CHECKING:
    from pydantic import TypeAdapter

REPORT = "report.json"


def merge(report: Path, answers: Sequence[Path], out: Path) -> BuildReport:
    """Return the report with the devices' answers, written to ``out`` in all its forms.

    Devices that the report knows already stay; the same answer is not added twice.

    Args:
        report: a build's ``report.json``, or the bundle that it lies in.
        answers: files that ``run.py --out`` or ``exporter check`` wrote.
        out: the .json file; the Markdown and the page go beside it.

    Raises:
        DeviceError: a file is not what it should be, or is about another model.
        OutputError: ``out`` cannot be written, or would change a bundle.
    """
    if out.suffix != ".json" or (out.parent / MANIFEST).is_file():
        raise OutputError(
            f"Cannot write the report to {out}: it must end in .json and lie outside of bundles."
        )
    found = read_report(report / REPORT if report.is_dir() else report)
    devices = list(found.devices)
    for path in answers:
        answer = read_answer(path)
        ours = found.shipped_model.sha256
        if answer.model_sha256 != ours:
            theirs = (answer.model_sha256 or "unknown")[:12]
            raise DeviceError(
                f"{path} is about another model: its sha256 is {theirs}…, the report's {ours[:12]}…"
            )
        device = device_report(answer, str(path))
        if device not in devices:
            devices.append(device)
    merged = dataclasses.replace(found, devices=tuple(devices))
    for name, data in report_files(merged, out.stem).items():
        write_file(out.with_name(name), data)
    return merged


def read_report(path: Path) -> BuildReport:
    """Return a build's report from its JSON; raises DeviceError if it is none."""
    from pydantic import ValidationError

    try:
        report = _reader().validate_json(path.read_bytes())
    except OSError as error:
        raise DeviceError(f"Cannot read {path}: {error.strerror}.") from error
    except ValidationError as error:
        raise DeviceError(f"{path} is not a report of this version of exporter.") from error
    if getattr(report.models, report.shipped) is None:
        raise DeviceError(f"{path} is damaged: it lacks the model that it says was shipped.")
    return report


@cache
def _reader() -> TypeAdapter[BuildReport]:
    from pydantic import TypeAdapter

    return TypeAdapter(BuildReport)
