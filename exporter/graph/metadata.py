"""What a shipped file says about itself, in the ``metadata_props`` of the model.

Each entry is a JSON document: ``classes``, ``input``, ``tools`` (versions), ``digests`` (sha256 of
what the file was made from) and, in a quantized file, ``quantization`` (how it was done). No times,
no paths, fixed order: the same build gives the same bytes. Any ONNX tool can read them; ONNX
Runtime as ``session.get_modelmeta()``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from importlib.metadata import version

from onnx import ModelProto, helper
from pydantic import TypeAdapter, ValidationError

from exporter.contract import InputContract
from exporter.errors import GraphError

CLASSES = "classes"
INPUT = "input"
TOOLS = "tools"
DIGESTS = "digests"
QUANTIZATION = "quantization"
FIXED = {"layout": "NHWC", "type": "uint8"}
"""The part of the input that is the same in every file; written for other readers."""
NEWER = {"mean", "std"}
"""Fields that files of older versions lack; they have the scalar normalisation alone."""


def write_metadata(
    model: ModelProto,
    contract: InputContract,
    *,
    tools: Mapping[str, str],
    digests: Mapping[str, str],
    quantization: Mapping[str, str | list[str]] | None = None,
) -> None:
    """Replace the metadata of ``model``."""
    described = dataclasses.asdict(contract)
    classes = described.pop("classes")
    entries: dict[str, object] = {
        CLASSES: classes,
        INPUT: described | FIXED,
        TOOLS: dict(tools),
        DIGESTS: dict(digests),
    }
    if quantization is not None:
        entries[QUANTIZATION] = dict(quantization)
    helper.set_model_props(
        model,
        {
            key: json.dumps(value, sort_keys=True, ensure_ascii=False)
            for key, value in entries.items()
        },
    )


def describe_quantization(model: ModelProto, more: Mapping[str, str | list[str]]) -> None:
    """Add to what a quantized ``model`` says about its quantization."""
    entries = read_metadata(model)
    described = json.loads(entries[QUANTIZATION]) | dict(more)
    entries[QUANTIZATION] = json.dumps(described, sort_keys=True, ensure_ascii=False)
    helper.set_model_props(model, entries)


def read_metadata(model: ModelProto) -> dict[str, str]:
    """Return all metadata of ``model`` as it stands there, whoever wrote it."""
    return {entry.key: entry.value for entry in model.metadata_props}


def read_contract(model: ModelProto) -> InputContract:
    """Return the input contract that ``write_metadata`` stored; raises GraphError without one."""
    entries = read_metadata(model)
    if CLASSES not in entries or INPUT not in entries:
        raise GraphError("has no input contract in its metadata; it was not made by this tool.")
    try:
        described = json.loads(entries[INPUT]) | {CLASSES: json.loads(entries[CLASSES])}
        known = {field.name for field in dataclasses.fields(InputContract)}
        if not (known - NEWER) | FIXED.keys() <= described.keys() <= known | FIXED.keys():
            raise ValueError(f"keys {sorted(described)}")
        own = {name: value for name, value in described.items() if name in known}
        return TypeAdapter(InputContract).validate_python(own)
    except (ValueError, TypeError) as error:  # pydantic's error is a ValueError
        raise GraphError("has a damaged input contract in its metadata.") from error


def read_tools(model: ModelProto) -> dict[str, str]:
    """Return the tool versions of ``model``, empty if it names none."""
    try:
        return TypeAdapter(dict[str, str]).validate_json(read_metadata(model).get(TOOLS, "{}"))
    except ValidationError:
        return {}


def tool_versions(*packages: str) -> dict[str, str]:
    """Return the installed versions of ``packages`` by name."""
    return {name: version(name) for name in packages}
