"""The report as one JSON document, described by ``schema.json``."""

from __future__ import annotations

from exporter.report.model import BuildReport


def dumps(report: BuildReport) -> str:
    """Return the report as indented JSON that ends with a newline."""
    from pydantic import TypeAdapter

    return TypeAdapter(BuildReport).dump_json(report, indent=2).decode() + "\n"
