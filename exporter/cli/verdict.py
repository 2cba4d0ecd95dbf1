"""The answer of `build` and `verify`: the report, and whether every gate was met."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from exporter.cli.answer import Answer
from exporter.cli.session import FAILED_GATE

if TYPE_CHECKING:
    from exporter.report.model import BuildReport


def verdict(report: BuildReport) -> Answer:
    """Return the report as JSON and as a table; the exit code says whether it passed."""
    from exporter.report.json import dumps
    from exporter.report.terminal import show

    return Answer(
        json=dumps(report), draw=partial(show, report), code=0 if report.passed else FAILED_GATE
    )
