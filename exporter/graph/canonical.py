"""The one form in which this tool writes ONNX files: the same model is the same bytes."""

from __future__ import annotations

from pathlib import Path

from onnx import AttributeProto, ModelProto, helper

OPSET = 18
"""The oldest that torch's exporter writes; ONNX Runtime fuses 18 to 25 alike."""
IR_VERSION = 8
"""The file format of opset 18's time. Whoever knows the opset (ONNX Runtime 1.14, from 2023, and
later) can read the file; torch writes version 10, which needs ONNX Runtime 1.18."""
PRODUCER = "edge-exporter"


def save_model(model: ModelProto, path: Path) -> None:
    """Write ``model`` in canonical form, changing it in place: see ``canonicalize``."""
    canonicalize(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def canonicalize(model: ModelProto) -> None:
    """Strip what depends on the machine or on the way the model was made.

    Kept are the graph, the model's own metadata and the operator sets in use. Gone are stack traces
    and other notes of torch's exporter, documentation, inferred types (any reader infers them
    again) and operator sets that no node uses.
    """
    graph = model.graph
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = PRODUCER, ""
    model.domain, model.doc_string, model.model_version = "", "", 0
    graph.name, graph.doc_string = "network", ""
    domains = {node.domain for node in graph.node} | {""}
    versions = {entry.domain: entry.version for entry in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(
        helper.make_opsetid(domain, versions[domain]) for domain in sorted(domains)
    )
    for noted in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del noted.metadata_props[:]
        noted.doc_string = ""
    for node in graph.node:
        attributes = sorted(node.attribute, key=lambda entry: entry.name)
        copies = [AttributeProto.FromString(entry.SerializeToString()) for entry in attributes]
        for copy in copies:
            copy.doc_string = ""
        del node.attribute[:]
        node.attribute.extend(copies)
    del graph.value_info[:]
