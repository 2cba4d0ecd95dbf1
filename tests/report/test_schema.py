from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest

from exporter.report.json import dumps
from exporter.report.schema import SCHEMA_FILE, schema_text
from tests.sample_report import SAMPLE

SCHEMA: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


def test_the_shipped_schema_is_up_to_date() -> None:
    fresh = SCHEMA_FILE.read_text(encoding="utf-8") == schema_text()
    assert fresh, "schema.json is stale. Regenerate it: python -m exporter.report.schema"


def test_the_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_field_is_described() -> None:
    objects = [SCHEMA, *SCHEMA["$defs"].values()]

    bare = [
        f"{entry['title']}.{name}"
        for entry in objects
        for name, field in entry["properties"].items()
        if not field.get("description")
    ]

    assert bare == []
    assert len(objects) > 10


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ((), "passed target bundle models drop_points speedup speedup_ci size_ratio gates"),
        (("models",), "dense small int8"),
        (
            ("models", "int8"),
            "path bytes parameters macs top1 correct total p50_ms p90_ms",
        ),
        (("gates", 0), "name limit measured passed"),
    ],
)
def test_the_promised_keys_are_there(place: tuple[str | int, ...], names: str) -> None:
    found: Any = json.loads(dumps(SAMPLE))
    for step in place:
        found = found[step]

    assert set(names.split()) <= set(found)


def test_a_full_report_fits() -> None:
    jsonschema.validate(json.loads(dumps(SAMPLE)), SCHEMA)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param(("models", "dense"), None, id="no baseline"),
        pytest.param(("models", "int8", "top1"), "98 %", id="text for a number"),
        pytest.param(("speedup_ci",), [1.0], id="half an interval"),
        pytest.param(("gates", 0, "measured"), None, id="a number that is just missing"),
        pytest.param(("machine", "governor"), {"reason": "?"}, id="no reason"),
    ],
)
def test_a_broken_report_does_not_fit(place: tuple[str | int, ...], value: object) -> None:
    document = json.loads(dumps(SAMPLE))
    broken: Any = copy.deepcopy(document)
    inner = broken
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)
