"""Older operator sets -> ours."""

from __future__ import annotations

from contextlib import suppress

from onnx import ModelProto, helper, version_converter

from exporter.errors import GraphError
from exporter.graph.canonical import OPSET
from exporter.graph.prepare import prepare
from exporter.intake.read import opset_of

RESIZE_HAS_MODES = 11
RESIZE_WITHOUT_MODES = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
"""What Resize and Upsample did before they could be told; the converter leaves today's defaults."""


def use_opset(model: ModelProto) -> ModelProto:
    """Return ``model`` in the operator set that this tool writes; newer ones stay as they are.

    onnx's converter knows most operators. Where it fails, ONNX Runtime folds first what can be
    folded, which takes many of the others away.

    Raises:
        GraphError: worded to follow the file's name: an operator has no newer form.
    """
    found = opset_of(model)
    if found >= OPSET:
        return model
    try:
        return _converted(model)
    except Exception as error:  # the converter's exceptions have no base of their own
        with suppress(Exception):
            return _converted(prepare(model))
        detail = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise GraphError(
            f"cannot be brought from opset {found} to {OPSET}: {detail.rstrip('.')}. Export it "
            f"with opset {OPSET} or newer."
        ) from error


def _converted(model: ModelProto) -> ModelProto:
    converted: ModelProto = version_converter.convert_version(model, OPSET)
    if opset_of(model) < RESIZE_HAS_MODES:
        for node in converted.graph.node:
            if node.op_type == "Resize":
                node.attribute.extend(
                    helper.make_attribute(name, value)
                    for name, value in RESIZE_WITHOUT_MODES.items()
                    if name not in {entry.name for entry in node.attribute}
                )
    return converted
