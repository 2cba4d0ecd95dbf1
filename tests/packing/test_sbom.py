"""The bill of materials: CycloneDX's required fields, and nothing that is not true."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema

from exporter.targets import TARGETS
from tests.tiny_bundle import tiny_bundle

# Of bom-1.6.schema.json: what it requires of the parts that we write, with its patterns and enums.
COMPONENT = {
    "type": "object",
    "required": ["type", "name"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["application", "library", "file", "machine-learning-model"]},
        "bom-ref": {"type": "string", "minLength": 1},
        "name": {"type": "string"},
        "version": {"type": "string", "maxLength": 1024},
        "scope": {"enum": ["required", "optional", "excluded"]},
        "purl": {"type": "string"},
        "hashes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["alg", "content"],
                "additionalProperties": False,
                "properties": {
                    "alg": {"const": "SHA-256"},
                    "content": {"type": "string", "pattern": "^[a-fA-F0-9]{64}$"},
                },
            },
        },
        "licenses": {
            "type": "array",
            "maxItems": 1,
            "items": {
                "oneOf": [
                    {
                        "type": "object",
                        "required": ["expression"],
                        "additionalProperties": False,
                        "properties": {"expression": {"type": "string"}},
                    },
                    {
                        "type": "object",
                        "required": ["license"],
                        "additionalProperties": False,
                        "properties": {
                            "license": {
                                "type": "object",
                                "additionalProperties": False,
                                "oneOf": [{"required": ["id"]}, {"required": ["name"]}],
                                "properties": {
                                    "id": {"enum": ["Apache-2.0", "MIT"]},
                                    "name": {"type": "string"},
                                },
                            }
                        },
                    },
                ]
            },
        },
    },
}
SCHEMA = {
    "type": "object",
    "required": ["bomFormat", "specVersion"],
    "additionalProperties": False,
    "properties": {
        "bomFormat": {"enum": ["CycloneDX"]},
        "specVersion": {"const": "1.6"},
        "serialNumber": {
            "type": "string",
            "pattern": "^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        },
        "version": {"type": "integer", "minimum": 1},
        "metadata": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "lifecycles": {"const": [{"phase": "build"}]},
                "tools": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"components": {"type": "array", "items": COMPONENT}},
                },
                "component": COMPONENT,
            },
        },
        "components": {"type": "array", "items": COMPONENT, "uniqueItems": True},
        "dependencies": {
            "type": "array",
            "uniqueItems": True,
            "items": {
                "type": "object",
                "required": ["ref"],
                "additionalProperties": False,
                "properties": {
                    "ref": {"type": "string", "minLength": 1},
                    "dependsOn": {
                        "type": "array",
                        "items": {"type": "string", "minLength": 1},
                        "uniqueItems": True,
                    },
                },
            },
        },
    },
}


def bill(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "sbom.cdx.json").read_bytes())
    jsonschema.validate(document, SCHEMA)
    return document


def test_every_target_has_a_valid_bill_with_the_digests_of_its_files(tmp_path: Path) -> None:
    for name in ("cpu-int8", "web-int8", "mobile-int8"):
        folder = tiny_bundle(tmp_path, target=TARGETS[name])
        document = bill(folder)
        model = document["metadata"]["component"]
        assert model["type"] == "machine-learning-model"
        assert model["bom-ref"] == f"file:{TARGETS[name].file_name}"
        files = {
            re.sub("^file:", "", entry["bom-ref"]): entry["hashes"][0]["content"]
            for entry in (model, *document["components"])
            if entry["bom-ref"].startswith("file:")
        }
        assert files.keys() == set(TARGETS[name].files) | {"run.py"}
        for path, content in files.items():
            assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == content
        refs = [entry["bom-ref"] for entry in (model, *document["components"])]
        assert len(refs) == len(set(refs))
        for entry in document["dependencies"]:
            assert {entry["ref"], *entry["dependsOn"]} <= set(refs)


def test_what_runs_it_is_required_and_what_made_it_is_not(shipped: Path) -> None:
    document = bill(shipped)
    libraries = {
        entry["name"]: entry for entry in document["components"] if entry["type"] == "library"
    }
    assert {name for name, entry in libraries.items() if entry["scope"] == "required"} == {
        "numpy", "onnxruntime",
    }  # fmt: skip
    assert libraries["torch"]["scope"] == "excluded"
    assert libraries["onnx"]["purl"] == f"pkg:pypi/onnx@{version('onnx')}"
    assert libraries["onnxruntime"]["version"] == version("onnxruntime")
    assert libraries["numpy"]["licenses"]


def test_a_page_needs_the_browsers_runtime(tmp_path: Path) -> None:
    document = bill(tiny_bundle(tmp_path, target=TARGETS["web-int8"]))
    (web,) = (entry for entry in document["components"] if entry["name"] == "onnxruntime-web")
    assert web["scope"] == "required"
    assert "version" not in web


def test_another_model_has_another_serial_number(shipped: Path, tmp_path: Path) -> None:
    other = tiny_bundle(tmp_path, target=TARGETS["web-int8"])
    assert bill(other)["serialNumber"] != bill(shipped)["serialNumber"]
