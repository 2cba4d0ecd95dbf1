"""What the operators of an exported network mean, in torch.

Only what this tool's own exporter and quantizer write is here, with the attributes that they write;
anything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from onnx import NodeProto, helper
from torch import Tensor
from torch.nn import functional

from exporter.errors import GraphError

Inputs = Sequence[Tensor | None]
Attributes = Mapping[str, Any]
Operator = Callable[[Inputs, Attributes], Tensor | Sequence[Tensor]]


def operator_of(node: NodeProto) -> Callable[[Inputs], Sequence[Tensor]]:
    """Return what computes the outputs of ``node``; raises GraphError if it is not known here."""
    compute = _OPERATORS.get(node.op_type)
    if compute is None:
        raise GraphError(
            f"Quantization-aware fine-tuning cannot follow {node.op_type} ({node.name}). "
            f"Known: {', '.join(sorted(_OPERATORS))}."
        )
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}

    def outputs(inputs: Inputs) -> Sequence[Tensor]:
        found = compute(inputs, attributes)
        return (found,) if isinstance(found, Tensor) else found

    return outputs


def _conv(inputs: Inputs, attributes: Attributes) -> Tensor:
    data, weight = _present(inputs[0]), _present(inputs[1])
    rank = weight.ndim - 2
    return torch.convolution(
        functional.pad(data, _torch_pads(attributes, rank)),
        weight,
        inputs[2] if len(inputs) > 2 else None,
        attributes.get("strides", [1] * rank),
        [0] * rank,
        attributes.get("dilations", [1] * rank),
        False,
        [0] * rank,
        attributes.get("group", 1),
    )


def _gemm(inputs: Inputs, attributes: Attributes) -> Tensor:
    left, right = _present(inputs[0]), _present(inputs[1])
    left = left.mT if attributes.get("transA") else left
    right = right.mT if attributes.get("transB") else right
    product = float(attributes.get("alpha", 1.0)) * (left @ right)
    bias = inputs[2] if len(inputs) > 2 else None
    return product if bias is None else product + float(attributes.get("beta", 1.0)) * bias


def _max_pool(inputs: Inputs, attributes: Attributes) -> Tensor:
    kernel = attributes["kernel_shape"]
    pads = _torch_pads(attributes, len(kernel))
    return functional.max_pool2d(
        functional.pad(_present(inputs[0]), pads, value=float("-inf")),
        kernel,
        attributes.get("strides", [1] * len(kernel)),
        dilation=attributes.get("dilations", [1] * len(kernel)),
        ceil_mode=bool(attributes.get("ceil_mode")),
    )


def _average_pool(inputs: Inputs, attributes: Attributes) -> Tensor:
    kernel = attributes["kernel_shape"]
    strides = attributes.get("strides", [1] * len(kernel))
    pads = _torch_pads(attributes, len(kernel))
    data = _present(inputs[0])
    sums = functional.avg_pool2d(functional.pad(data, pads), kernel, strides)
    if attributes.get("count_include_pad") or not any(pads):
        return sums
    inside = functional.pad(torch.ones_like(data[:1, :1]), pads)
    return sums / functional.avg_pool2d(inside, kernel, strides)


def _reduce_mean(inputs: Inputs, attributes: Attributes) -> Tensor:
    data = _present(inputs[0])
    given = inputs[1] if len(inputs) > 1 else None
    axes = attributes.get("axes") if given is None else given.tolist()
    kept = bool(attributes.get("keepdims", 1))
    return data.mean(axes or list(range(data.ndim)), keepdim=kept)


def _clip(inputs: Inputs, attributes: Attributes) -> Tensor:
    low, high = ([*inputs[1:], None, None])[:2]
    return _present(inputs[0]).clamp(low, high)


def _reshape(inputs: Inputs, attributes: Attributes) -> Tensor:
    data, wanted = _present(inputs[0]), _present(inputs[1]).tolist()
    # 0 keeps the size that is there.
    return data.reshape([data.shape[i] if size == 0 else size for i, size in enumerate(wanted)])


def _shape(inputs: Inputs, attributes: Attributes) -> Tensor:
    shape = _present(inputs[0]).shape
    return torch.tensor(shape[attributes.get("start", 0) : attributes.get("end", len(shape))])


def _transpose(inputs: Inputs, attributes: Attributes) -> Tensor:
    data = _present(inputs[0])
    return data.permute(attributes.get("perm", list(range(data.ndim))[::-1]))


def _flatten(inputs: Inputs, attributes: Attributes) -> Tensor:
    data, axis = _present(inputs[0]), attributes.get("axis", 1)
    return data.reshape(data.shape[:axis].numel(), -1)


def _split(inputs: Inputs, attributes: Attributes) -> Sequence[Tensor]:
    data, axis = _present(inputs[0]), attributes.get("axis", 0)
    given = inputs[1] if len(inputs) > 1 else None
    size = -(-data.shape[axis] // attributes.get("num_outputs", 1))
    parts: Sequence[Tensor] = data.split(size if given is None else given.tolist(), axis)
    return parts


def _slice(inputs: Inputs, attributes: Attributes) -> Tensor:
    data, starts, ends = (_present(part) for part in inputs[:3])
    axes = _present(inputs[3]).tolist() if len(inputs) > 3 else range(len(starts))
    steps = _present(inputs[4]).tolist() if len(inputs) > 4 else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
        places = range(data.shape[axis])[start:end:step]
        data = data.index_select(axis, torch.tensor(places, device=data.device))
    return data


def _softmax(inputs: Inputs, attributes: Attributes) -> Tensor:
    return _present(inputs[0]).softmax(attributes.get("axis", -1))


def _hard_sigmoid(inputs: Inputs, attributes: Attributes) -> Tensor:
    slope, shift = float(attributes.get("alpha", 0.2)), float(attributes.get("beta", 0.5))
    return (slope * _present(inputs[0]) + shift).clamp(0, 1)


def _gelu(inputs: Inputs, attributes: Attributes) -> Tensor:
    approximate = attributes.get("approximate", b"none").decode()
    return functional.gelu(_present(inputs[0]), approximate=approximate)


def _layer_norm(inputs: Inputs, attributes: Attributes) -> Tensor:
    data = _present(inputs[0])
    axis = attributes.get("axis", -1)
    bias = inputs[2] if len(inputs) > 2 else None
    shape, epsilon = data.shape[axis:], attributes.get("epsilon", 1e-5)
    return functional.layer_norm(data, shape, inputs[1], bias, epsilon)


def _torch_pads(attributes: Attributes, rank: int) -> list[int]:
    """ONNX lists the starts of all axes, then the ends; torch both ends of the last axis first."""
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise GraphError("Quantization-aware fine-tuning wants paddings in numbers, not auto_pad.")
    pads = attributes.get("pads", [0] * 2 * rank)
    return [pads[side + axis] for axis in reversed(range(rank)) for side in (0, rank)]


def _present(tensor: Tensor | None) -> Tensor:
    assert tensor is not None, "the operator was written without an input that it needs"
    return tensor


def _of_one(compute: Callable[[Tensor], Tensor]) -> Operator:
    return lambda inputs, attributes: compute(_present(inputs[0]))


def _of_two(compute: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda inputs, attributes: compute(_present(inputs[0]), _present(inputs[1]))


_OPERATORS: dict[str, Operator] = {
    "Add": _of_two(torch.add),
    "AveragePool": _average_pool,
    "Clip": _clip,
    "Concat": lambda inputs, attributes: torch.cat(
        [_present(part) for part in inputs], attributes["axis"]
    ),
    "Conv": _conv,
    "Div": _of_two(torch.div),
    "Flatten": _flatten,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _of_one(lambda data: data.mean((2, 3), keepdim=True)),
    "HardSigmoid": _hard_sigmoid,
    "Identity": _of_one(lambda data: data),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda inputs, attributes: functional.leaky_relu(
        _present(inputs[0]), attributes.get("alpha", 0.01)
    ),
    "MatMul": _of_two(torch.matmul),
    "MaxPool": _max_pool,
    "Mul": _of_two(torch.mul),
    "ReduceMean": _reduce_mean,
    "Relu": _of_one(torch.relu),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": _of_one(torch.sigmoid),
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sub": _of_two(torch.sub),
    "Tanh": _of_one(torch.tanh),
    "Transpose": _transpose,
}
