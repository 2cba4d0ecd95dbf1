"""Names of tensors, where those of somebody else's file meet our own."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from onnx import ModelProto

from exporter.contract import INPUT_NAME, OUTPUT_NAME
from exporter.graph.contract import INPUT_SIDE

RESERVED = (INPUT_NAME, *INPUT_SIDE, OUTPUT_NAME)


def free_reserved(model: ModelProto) -> dict[str, str]:
    """Rename what has a name that the contract needs; return the new names by the old ones."""
    graph = model.graph
    taken = {name for node in graph.node for name in chain(node.input, node.output)}
    taken |= {named.name for named in chain(graph.input, graph.initializer)}
    renamed = {}
    for name in taken.intersection(RESERVED):
        free = f"{name}_"
        while free in taken:
            free += "_"
        renamed[name] = free
    rename(model, renamed)
    return renamed


def rename(model: ModelProto, names: Mapping[str, str]) -> None:
    """Give tensors other names, everywhere in the graph."""
    graph = model.graph
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for named in chain(graph.input, graph.output, graph.initializer, graph.value_info):
        named.name = names.get(named.name, named.name)
