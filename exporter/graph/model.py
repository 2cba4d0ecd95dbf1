"""A float ONNX file with the raw-bytes contract, and what was measured on it.

Layout of the graph::

    image (uint8 [N, H, W, C]) -> Transpose -> image_nchw -> DequantizeLinear -> normalized
    normalized (float32 [N, C, H, W]) -> network -> logits (float32 [N, classes])
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from exporter.artifacts import Artifact
from exporter.contract import InputContract
from exporter.errors import GraphError


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxModel:
    """A model file, dense or small. Standard operators, any batch size."""

    file: Artifact
    contract: InputContract
    parameters: int
    """Elements of the weights and biases of Conv, Gemm and MatMul (batch-norm is folded in)."""
    macs: int
    """Multiply-accumulates of one image."""
    parity: float | None = field(default=None, compare=False)
    """Largest |torch - ONNX| logit on a probe batch, relative to the largest |logit|.

    None where it was not measured: for a file that was read, not exported.
    """


def read_onnx_model(path: Path) -> OnnxModel:
    """Return the model in a file that this tool has written, float or quantized.

    Raises:
        GraphError: the file is missing, damaged, not allowed, or was made by something else.
    """
    from exporter.graph.checks import check_shippable
    from exporter.graph.count import count_macs, count_parameters
    from exporter.graph.limits import read_model
    from exporter.graph.metadata import read_contract

    model = read_model(path)
    try:
        contract = read_contract(model)
        check_shippable(model, contract)
    except GraphError as error:
        raise GraphError(f"{path} {error}") from error
    return OnnxModel(
        file=Artifact.of(path),
        contract=contract,
        parameters=count_parameters(model),
        macs=count_macs(model),
    )
