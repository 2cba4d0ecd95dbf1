"""Half and double precision -> single precision, which integer kernels convert to and from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto, numpy_helper

from exporter.graph.limits import stored_tensors

OTHER_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
TYPE_ATTRIBUTES = {"Cast": "to", "EyeLike": "dtype"}
"""Attributes that name a type, by operator."""


def use_single_precision(model: ModelProto) -> int:
    """Turn every float of another width into float32, in place; return how many there were.

    Values of half precision stay exactly the same, those of double precision are rounded.
    """
    tensors = [t for t in stored_tensors(model.graph) if t.data_type in OTHER_FLOATS]
    for tensor in tensors:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    types = [entry for entry in _type_attributes(model) if entry.i in OTHER_FLOATS]
    for entry in types:
        entry.i = TensorProto.FLOAT
    ends = [
        info.type.tensor_type
        for info in chain(model.graph.input, model.graph.output)
        if info.type.tensor_type.elem_type in OTHER_FLOATS
    ]
    for kind in ends:
        kind.elem_type = TensorProto.FLOAT
    changed = len(tensors) + len(types) + len(ends)
    if changed:
        del model.graph.value_info[:]  # inferred for the other precision
    return changed


def _type_attributes(model: ModelProto) -> Iterator[AttributeProto]:
    for node in model.graph.node:
        wanted = TYPE_ATTRIBUTES.get(node.op_type)
        yield from (entry for entry in node.attribute if entry.name == wanted)
