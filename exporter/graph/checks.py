"""What must be true of every ONNX file that this tool writes."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import ModelProto, TensorProto, ValueInfoProto

from exporter.contract import INPUT_NAME, OUTPUT_NAME, InputContract
from exporter.errors import GraphError


def check_shippable(model: ModelProto, contract: InputContract) -> None:
    """Raise GraphError, worded to follow the file's name, unless ``model`` may be shipped.

    It must keep the contract (raw bytes in, float logits out, any batch size or 1; float tensors of
    any shape out where the contract has no classes), use no operators outside the ONNX standard,
    and hold no batch-norm: that belongs folded into a convolution.
    """
    for node in model.graph.node:
        if node.domain:
            raise GraphError(
                f"uses {node.domain}.{node.op_type}, which only ONNX Runtime knows; use layers "
                "that ONNX has operators for."
            )
        if node.op_type == "BatchNormalization":
            raise GraphError(
                f"has the batch-norm {node.name!r} that was not folded; put it right behind a "
                "convolution, with nothing else reading the convolution."
            )
    wanted_inputs = [
        (
            INPUT_NAME,
            TensorProto.UINT8,
            [None, contract.height, contract.width, contract.channels],
        )
    ]
    outputs = _described(model.graph.output)
    wanted_outputs = (
        [(OUTPUT_NAME, TensorProto.FLOAT, [None, len(contract.classes)])]
        if contract.classes
        else [(name, TensorProto.FLOAT, [None, *shape[1:]]) for name, _, shape in outputs]
    )
    for side, found, wanted in (
        ("inputs", _described(model.graph.input), wanted_inputs),
        ("outputs", outputs, wanted_outputs),
    ):
        if found != wanted:
            raise GraphError(
                f"has the {side} {found}, but must have {wanted} (None: any number of images, or "
                "one)."
            )


def _described(infos: Iterable[ValueInfoProto]) -> list[tuple[str, int, list[int | None]]]:
    return [
        (
            info.name,
            info.type.tensor_type.elem_type,
            [
                dim.dim_value
                if dim.HasField("dim_value") and (index or dim.dim_value != 1)
                else None
                for index, dim in enumerate(info.type.tensor_type.shape.dim)
            ],
        )
        for info in infos
    ]
