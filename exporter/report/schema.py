"""The JSON schema of the report, generated from its types.

``python -m exporter.report.schema`` writes ``schema.json`` anew after the types have changed.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, core_schema

from exporter.report.model import BuildReport

SCHEMA_FILE = Path(__file__).with_name("schema.json")


def schema_text() -> str:
    """Return the schema of ``BuildReport`` as the text that ``schema.json`` should hold."""
    document = TypeAdapter(BuildReport).json_schema(
        mode="serialization", schema_generator=_WithoutTitles
    )
    document = {"$schema": GenerateJsonSchema.schema_dialect, **document}
    return json.dumps(document, indent=2) + "\n"


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out pydantic's titles, which repeat the field names ("P50 Ms")."""

    def field_title_should_be_set(
        self, schema: CoreSchema | core_schema.ModelField | core_schema.DataclassField
    ) -> bool:
        return False


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
