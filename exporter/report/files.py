"""The report in all its forms, as files."""

from __future__ import annotations

from exporter.report.json import dumps
from exporter.report.markdown import markdown
from exporter.report.model import BuildReport
from exporter.report.page.page import page

STEM = "report"


def report_files(report: BuildReport, stem: str = STEM) -> dict[str, bytes]:
    """Return the content of the report's files by name: ``.json`` holds all, the others show it."""
    return {
        f"{stem}.json": dumps(report).encode(),
        f"{stem}.md": markdown(report).encode(),
        f"{stem}.html": page(report).encode(),
    }
