"""How large the int8 file of a network will be, without training or calibrating it.

The size follows from the shapes alone. Two networks of the same layout, the widest and the
narrowest, are exported and quantized for real, with ranges that are made up; between them the size
grows in a line with the bytes of the weights, since everything else in the file stays the same.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from torch import nn

from calibration import Range, Ranges
from calibration.activations import float_activations
from exporter.artifacts import Artifact, Cache
from exporter.contract import InputContract
from exporter.graph.contract import detach_image
from exporter.graph.export import export_module
from exporter.graph.limits import read_model
from exporter.graph.model import read_onnx_model
from exporter.graph.prepare import prepare
from exporter.pruning.cost import Cost, count_tensor_bytes
from exporter.quantization.quantize import quantize
from exporter.ship import shipped_for
from exporter.targets import Target


def file_size_between(
    widest: nn.Module, narrowest: nn.Module, contract: InputContract, target: Target
) -> Cost:
    """Return a function that tells the bytes of the int8 file of a network between the two.

    Raises:
        ExporterError: the networks cannot be exported or quantized.
    """
    low, high = (count_tensor_bytes(module) for module in (narrowest, widest))
    low_bytes, high_bytes = (
        int8_file_bytes(module, contract, target) for module in (narrowest, widest)
    )
    slope = (high_bytes - low_bytes) / max(1, high - low)
    return lambda module: low_bytes + slope * (count_tensor_bytes(module) - low)


def int8_file_bytes(module: nn.Module, contract: InputContract, target: Target) -> int:
    """Return the size of the int8 file of ``module``; a real one may be a few bytes smaller."""
    with tempfile.TemporaryDirectory(prefix="size-") as name:
        folder = Path(name)
        export_module(module, contract, folder / "float.onnx")
        model = read_onnx_model(folder / "float.onnx")
        core = read_model(model.file.path)
        detach_image(core, contract)
        ranges = Ranges(
            model_digest=model.file.sha256,
            data_digest="",
            method="none",
            samples=1,
            by_tensor={
                tensor: Range(low=0.0, high=1.0)  # as behind a ReLU, which then disappears
                for tensor in float_activations(prepare(core).graph)
            },
        )
        (folder / "ranges.json").write_text(ranges.to_json())
        if target.seven_bit_weights == "where-needed":
            # Which layers need seven bits depends on the weights; the file lists their names.
            target = dataclasses.replace(target, seven_bit_weights="always")
        quantized = quantize(
            folder, target, model, Artifact.of(folder / "ranges.json"), method="percentile"
        )
        shipped = shipped_for(Cache(folder / "packed"), target, quantized)
        return shipped.file.path.stat().st_size
