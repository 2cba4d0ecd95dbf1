"""A quantized file as small a download as it can be: the same graph in fewer bytes.

Weights are what they are; what goes is what stands around them. Zero points of biases are zero,
the default, so they need not be there (those of weights and activations must: ONNX Runtime 1.32
makes no integer kernel without them); equal constants are stored once; names of nodes are nobody's
business, and those of tensors one letter or two; of the metadata stays what a caller needs, classes
and input. Versions and digests are in the bundle's manifest, names of layers in its report.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from itertools import count, product

from onnx import ModelProto, TensorProto, numpy_helper

from exporter.graph.metadata import CLASSES, INPUT

ZERO_POINT = 2
"""Position among the inputs of DequantizeLinear."""


def make_compact(model: ModelProto) -> None:
    """Shrink the file of ``model``; its outputs stay the same to the bit."""
    _drop_zero_points_of_biases(model)
    _share_constants(model)
    _shorten_names(model)
    kept = [entry for entry in model.metadata_props if entry.key in (CLASSES, INPUT)]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)


def _drop_zero_points_of_biases(model: ModelProto) -> None:
    """Rely on the standard, by which the zero point of int32 values is always zero."""
    biases = {t.name for t in model.graph.initializer if t.data_type == TensorProto.INT32}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in biases:
            del node.input[ZERO_POINT:]


def _share_constants(model: ModelProto) -> None:
    """Keep one of each constant that is read, and none that is not."""
    by_content: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    same = {}
    kept = []
    read = {name for node in model.graph.node for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name not in read:
            continue
        values = numpy_helper.to_array(tensor)
        content = (tensor.data_type, values.shape, values.tobytes())
        same[tensor.name] = by_content.setdefault(content, tensor.name)
        if same[tensor.name] == tensor.name:
            kept.append(tensor)
    for node in model.graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _shorten_names(model: ModelProto) -> None:
    graph = model.graph
    taken = {info.name for info in (*graph.input, *graph.output)}
    fresh = (name for name in _short_names() if name not in taken)
    short = {name: name for name in (*taken, "")}  # an empty name is an input left out
    for node in graph.node:
        node.name = ""
        for name in (*node.input, *node.output):
            if name not in short:
                short[name] = next(fresh)
        node.input[:] = [short[name] for name in node.input]
        node.output[:] = [short[name] for name in node.output]
    for tensor in graph.initializer:
        tensor.name = short[tensor.name]


def _short_names() -> Iterator[str]:
    """Yield a, b, ..., z, aa, ab, ..."""
    for length in count(1):
        for letters in product(string.ascii_lowercase, repeat=length):
            yield "".join(letters)
