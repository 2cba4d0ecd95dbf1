"""Who makes and who reads each tensor of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper, shape_inference

Shape = tuple[int | None, ...]
"""Sizes of a tensor; None where the caller decides, as for the batch."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """A snapshot of a graph's connections; take a new one after changing the graph."""

    producer: Mapping[str, NodeProto]
    """The node that writes a tensor, by tensor name."""
    readers: Mapping[str, list[NodeProto]]
    """The nodes that read a tensor, by tensor name, in graph order."""
    constants: Mapping[str, TensorProto]
    """Initializers by name."""
    outputs: frozenset[str]
    """Names of the graph's outputs."""

    @classmethod
    def of(cls, graph: GraphProto) -> Wiring:
        """Return the connections of ``graph`` as it is now."""
        readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                readers.setdefault(name, []).append(node)
        return cls(
            producer={name: node for node in graph.node for name in node.output if name},
            readers=readers,
            constants={tensor.name: tensor for tensor in graph.initializer},
            outputs=frozenset(output.name for output in graph.output),
        )

    def only_reader(self, name: str) -> NodeProto | None:
        """Return the one node that reads ``name``, or None if others or the caller see it too."""
        nodes = self.readers.get(name, [])
        return nodes[0] if len(nodes) == 1 and name not in self.outputs else None

    def weight_behind(self, name: str) -> TensorProto | None:
        """Return the initializer that ``name`` is, or that a DequantizeLinear makes it from."""
        node = self.producer.get(name)
        if node is not None and node.op_type == "DequantizeLinear":
            name = node.input[0]
        return self.constants.get(name)

    def values(self, name: str) -> NDArray[np.generic] | None:
        """Return the content of the initializer ``name``, or None if it is not one."""
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)


def int_attribute(node: NodeProto, name: str, default: int) -> int:
    """Return an integer attribute of ``node``."""
    return next((entry.i for entry in node.attribute if entry.name == name), default)


def ints_attribute(node: NodeProto, name: str) -> list[int]:
    """Return a list attribute of ``node``, empty if it is not set."""
    return next((list(entry.ints) for entry in node.attribute if entry.name == name), [])


def replace_nodes(model: ModelProto, nodes: Iterable[NodeProto]) -> None:
    """Set the nodes of the graph, in execution order, and drop initializers nobody reads."""
    kept = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    used |= {output.name for output in model.graph.output}
    initializers = [tensor for tensor in model.graph.initializer if tensor.name in used]
    if len(initializers) < len(model.graph.initializer):
        copies = [TensorProto.FromString(t.SerializeToString()) for t in initializers]
        del model.graph.initializer[:]
        model.graph.initializer.extend(copies)


def static_shapes(model: ModelProto) -> dict[str, Shape]:
    """Return the inferred shape of every tensor; a dynamic dimension is None."""
    graph = shape_inference.infer_shapes(model).graph
    shapes = {
        info.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None
            for dim in info.type.tensor_type.shape.dim
        )
        for info in [*graph.input, *graph.value_info, *graph.output]
        if info.type.tensor_type.HasField("shape")
    }
    shapes.update({tensor.name: tuple(tensor.dims) for tensor in graph.initializer})
    return shapes
