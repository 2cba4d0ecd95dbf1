"""Stage: a float model and its activation ranges become a static int8 model.

U8S8 in QDQ form: unsigned activations, signed weights, one scale per output channel. It is the one
format that ONNX Runtime executes fast on every CPU. Logits stay float, pixels stay the bytes they
are.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from calibration import CalibrationError, Range, Ranges, write_onnxruntime_ranges
from calibration.activations import float_activations
from exporter.artifacts import Artifact
from exporter.contract import InputContract
from exporter.errors import GraphError
from exporter.graph.canonical import save_model
from exporter.graph.checks import check_shippable
from exporter.graph.contract import attach_image_to_quantized, detach_image
from exporter.graph.count import count_macs, count_parameters
from exporter.graph.hard_sigmoid import use_addition_for_hard_sigmoid
from exporter.graph.limits import read_model
from exporter.graph.metadata import read_tools, tool_versions, write_metadata
from exporter.graph.model import OnnxModel
from exporter.graph.normalization import NORMALIZED, use_scalar_normalization
from exporter.graph.prepare import prepare
from exporter.graph.scale_factor import absorb_factors
from exporter.quantization.coverage import Coverage, measure_coverage
from exporter.quantization.float_layers import check_names, keep_float, separate_weights
from exporter.quantization.layers import layers_of
from exporter.quantization.saturation import saturating_layers
from exporter.quantization.weight_ranges import weight_overrides
from exporter.targets import Target

VERSION = 3

PIXEL_MAX = 255
FLOAT_NORMS = ("InstanceNormalization", "LayerNormalization")
"""The quantizer would round their parameters to 8 bits, but there are no integer kernels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizedModel:
    """An int8 model that takes raw pixels, checked to run on integer kernels."""

    file: Artifact
    contract: InputContract
    target: str
    method: str
    """How the activation ranges were chosen."""
    coverage: Coverage
    seven_bit_layers: tuple[str, ...]
    """Layers whose weights are kept in [-64, 64], in graph order."""
    float_layers: tuple[str, ...] = ()
    """Layers that are not quantized because somebody asked for it."""
    parameters: int
    macs: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class QuantizedCore:
    """A network without its input side: both forms read ``normalized`` and write logits.

    Layers have the same names in both.
    """

    floating: ModelProto
    quantized: ModelProto
    """In QDQ form."""
    seven_bit_layers: tuple[str, ...]
    float_layers: tuple[str, ...] = ()
    tools: Mapping[str, str]
    """Versions of what made it."""


def quantize(
    out: Path,
    target: Target,
    model: OnnxModel,
    ranges: Artifact,
    method: str,
    float_layers: tuple[str, ...] = (),
) -> QuantizedModel:
    """Write ``model.onnx``, the quantized ``model``. The same inputs give the same bytes.

    Args:
        out: folder of the result.
        target: decides which weights get seven bits, and whether channels have their own scales.
        model: the float model.
        ranges: a file of ``calibration.Ranges`` that was measured on ``model``.
        method: name of the method that chose the ranges.
        float_layers: names of layers (see ``layers_of``) that are not quantized.

    Raises:
        GraphError: the ranges belong to another model, miss a tensor or are damaged; the model
            cannot be quantized; it has no layer of a name in ``float_layers``.
        CoverageError: a layer would not run as an integer kernel, or a float layer would.
    """
    core = quantized_core(target, model, ranges, float_layers)
    return write_quantized(out, target, model, ranges, method, core)


def quantized_core(
    target: Target, model: OnnxModel, ranges: Artifact, float_layers: tuple[str, ...] = ()
) -> QuantizedCore:
    """Return the network of ``model`` without its input side, before and after quantization."""
    contract = model.contract
    chosen = _ranges_of(model, ranges)
    core = read_model(model.file.checked())
    tools = read_tools(core) | tool_versions("onnx", "onnxruntime")
    detach_image(core, contract)
    exact = use_scalar_normalization(core, contract)
    core = prepare(core)
    chosen = _with_exact(chosen, exact | use_addition_for_hard_sigmoid(core))
    if float_layers:
        check_names(core, float_layers)
        separate_weights(core, float_layers)
    quantized, seven_bit_layers = _quantized_for(target, core, chosen, contract, float_layers)
    if float_layers:
        keep_float(quantized, core, float_layers, contract)
    return QuantizedCore(
        floating=core,
        quantized=quantized,
        seven_bit_layers=seven_bit_layers,
        float_layers=float_layers,
        tools=tools,
    )


def write_quantized(
    out: Path,
    target: Target,
    model: OnnxModel,
    ranges: Artifact,
    method: str,
    core: QuantizedCore,
    corrections: tuple[str, ...] = (),
) -> QuantizedModel:
    """Give a quantized core its input side back, write ``model.onnx`` and check what it became."""
    contract, quantized = model.contract, core.quantized
    absorb_factors(quantized)
    attach_image_to_quantized(quantized, contract)
    described: dict[str, str | list[str]] = {
        "target": target.name,
        "method": method,
        "seven_bit_layers": list(core.seven_bit_layers),
    }
    if core.float_layers:
        described["float_layers"] = list(core.float_layers)
    if corrections:
        described["corrections"] = list(corrections)
    write_metadata(
        quantized,
        contract,
        tools=core.tools,
        digests={"float_model": model.file.sha256, "ranges": ranges.sha256},
        quantization=described,
    )
    path = out / "model.onnx"
    save_model(quantized, path)
    shipped = read_model(path)
    check_shippable(shipped, contract)
    return QuantizedModel(
        file=Artifact.of(path),
        contract=contract,
        target=target.name,
        method=method,
        coverage=measure_coverage(path, contract, core.float_layers),
        seven_bit_layers=core.seven_bit_layers,
        float_layers=core.float_layers,
        parameters=count_parameters(shipped),
        macs=count_macs(shipped),
    )


def _ranges_of(model: OnnxModel, artifact: Artifact) -> Ranges:
    """Return the ranges after checking that they are the model's; pixels get their exact range."""
    try:
        ranges = Ranges.from_json(artifact.checked().read_text())
        ranges.check_model(model.file.sha256)
    except (CalibrationError, UnicodeDecodeError) as error:
        raise GraphError(f"{artifact.path}: {error}") from error
    contract = model.contract
    pixels = Range(
        low=-contract.zero_point * contract.scale,
        high=(PIXEL_MAX - contract.zero_point) * contract.scale,
    )
    return dataclasses.replace(ranges, by_tensor={**ranges.by_tensor, NORMALIZED: pixels})


def _with_exact(ranges: Ranges, exact: Mapping[str, tuple[float, float]]) -> Ranges:
    """Return ``ranges`` with those that follow from the graph itself in their place."""
    known = {name: Range(low=low, high=high) for name, (low, high) in exact.items()}
    return dataclasses.replace(ranges, by_tensor={**ranges.by_tensor, **known})


def _quantized_for(
    target: Target,
    core: ModelProto,
    ranges: Ranges,
    contract: InputContract,
    float_layers: Collection[str],
) -> tuple[ModelProto, tuple[str, ...]]:
    """Return the quantized core, and the layers that got seven bits."""

    def quantized(seven_bit: Collection[str]) -> ModelProto:
        return _quantized(core, ranges, contract, target, seven_bit, float_layers)

    if target.seven_bit_weights == "always":
        every = tuple(layer.name for layer in layers_of(core) if layer.name not in float_layers)
        return quantized(every), every
    full = quantized(())
    risky = saturating_layers(full) if target.seven_bit_weights == "where-needed" else ()
    return (quantized(risky), risky) if risky else (full, ())


def _quantized(
    core: ModelProto,
    ranges: Ranges,
    contract: InputContract,
    target: Target,
    seven_bit: Collection[str],
    float_layers: Collection[str],
) -> ModelProto:
    """Return ``core`` as ONNX Runtime's quantizer writes it, float pixels in, float logits out."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    missing = sorted(set(float_activations(core.graph)) - set(ranges.by_tensor))
    if missing:
        raise GraphError(f"The ranges miss {', '.join(missing)}. Calibrate the model again.")
    overrides = weight_overrides(
        [layer for layer in layers_of(core) if layer.name not in float_layers],
        per_channel=target.per_channel,
        seven_bit=seven_bit,
    )
    pixels = {
        "scale": np.array(contract.scale, np.float32),
        "zero_point": np.array(contract.zero_point, np.uint8),
    }
    with tempfile.TemporaryDirectory(prefix="quantize-") as folder:
        range_file, quantized = Path(folder) / "ranges.json", Path(folder) / "quantized.onnx"
        write_onnxruntime_ranges(ranges, range_file)
        try:
            quantize_static(
                core,
                quantized,
                calibration_cache_path=range_file,
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=target.per_channel,
                nodes_to_exclude=[
                    node.name
                    for node in core.graph.node
                    if node.op_type in FLOAT_NORMS or node.name in float_layers
                ],
                extra_options={
                    # Logits are compared and shown, never computed with; eight bits make ties.
                    "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
                    # A network that starts with a pool or a Flatten reads the raw bytes, too.
                    "ForceQuantizeNoInputCheck": True,
                    "TensorQuantOverrides": {**overrides, NORMALIZED: [pixels]},
                },
            )
        except Exception as error:  # the quantizer raises whatever happens to it
            detail = " ".join(str(error).split())
            raise GraphError(f"ONNX Runtime cannot quantize the model: {detail}") from error
        return onnx.load(quantized)
