"""Software bill of materials of a bundle, in the form of CycloneDX 1.6 (ECMA-424) as JSON.

The model is what the document is about. Components that a device needs have the scope
``required``; libraries that made the model, but are not there when it runs, are ``excluded``. No
time of day, and a serial number that follows from the content: the same bundle has the same bill.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from exporter import __version__
from exporter.packing.contents import Contents

SBOM = "sbom.cdx.json"
SPEC_VERSION = "1.6"
RUNTIME = ("numpy", "onnxruntime")
"""Distributions that ``run.py`` imports."""
OWN_LICENCE = "Apache-2.0"
LONGEST_NAME = 80
"""Characters of a licence's name; beyond that it is the licence's text."""

Component = Mapping[str, Any]


def sbom(
    *,
    name: str,
    model_file: str,
    models: Contents,
    programs: Contents,
    made_with: Mapping[str, str],
    browser: bool,
) -> bytes:
    """Return the bill as JSON.

    Args:
        name: the model's name.
        model_file: which of ``models`` a device loads.
        models: the model's files by name.
        programs: what the bundle brings along to run it: ours, under Apache-2.0.
        made_with: versions of the Python distributions that made the model.
        browser: whether the bundle is meant for browsers, by onnxruntime-web.
    """
    libraries = [_library(entry, made_with[entry]) for entry in sorted(made_with)]
    if browser:
        libraries.append(_web_runtime())
    needed = [entry["bom-ref"] for entry in libraries if entry["scope"] == "required"]
    model = {**_file(model_file, models[model_file]), "type": "machine-learning-model"}
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [_tool()]},
            "component": {**model, "name": name},
        },
        "components": [
            *(_file(path, data) for path, data in models.items() if path != model_file),
            *(_file(path, data, OWN_LICENCE) for path, data in programs.items()),
            *libraries,
        ],
        "dependencies": [
            {"ref": ref, "dependsOn": needed} for ref in (_file_ref(model_file), *_refs(programs))
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True)).urn
    document["serialNumber"] = serial
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def _tool() -> Component:
    return {"type": "application", "name": "edge-exporter", "version": __version__}


def _refs(files: Iterable[str]) -> list[str]:
    return [_file_ref(path) for path in files]


def _file_ref(path: str) -> str:
    return f"file:{path}"


def _file(path: str, data: bytes, licence: str = "") -> Component:
    return {
        "type": "file",
        "bom-ref": _file_ref(path),
        "name": path,
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}],
        **({"licenses": [{"license": {"id": licence}}]} if licence else {}),
    }


def _library(name: str, version: str) -> Component:
    purl = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "scope": "required" if name in RUNTIME else "excluded",
        **_licences(name),
    }


def _web_runtime() -> Component:
    """Return what the page loads from elsewhere, in a version that its server chooses."""
    purl = "pkg:npm/onnxruntime-web"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": "onnxruntime-web",
        "purl": purl,
        "scope": "required",
        "licenses": [{"license": {"id": "MIT"}}],
    }


def _licences(name: str) -> Component:
    """Return what a distribution says of its licence; nothing where it says nothing usable."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return {}
    expression, text = found["License-Expression"], (found["License"] or "").strip()
    if expression:
        return {"licenses": [{"expression": expression}]}
    if text and len(text.splitlines()) == 1 and len(text) <= LONGEST_NAME:
        return {"licenses": [{"license": {"name": text}}]}
    return {}
