"""From a float ONNX file, whatever its outputs mean, to an int8 file that agrees with it.

There are no classes to count right, so what int8 loses is the distance of its outputs from the
float model's. Of several range methods the one wins whose worst output has the largest
signal-to-noise ratio on validation images; the ratio that is told and gated is that on test images.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from exporter.agreement.measure import Agreement, measure_agreement
from exporter.artifacts import Cache
from exporter.config import BuildConfig, CorrectionConfig
from exporter.data.load import load_splits
from exporter.data.size import parse_size
from exporter.data.splits import Splits
from exporter.errors import ConfigError, GraphError
from exporter.graph.limits import parse_model
from exporter.graph.metadata import read_contract
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.intake.image_input import find_image
from exporter.intake.pixels import stated_pixels
from exporter.intake.read import files_of, read_float_model, told_of
from exporter.intake.take_in_any import take_in_any
from exporter.mixed.choose import check_float_layers
from exporter.progress import say
from exporter.quantization.calibrate import calibrate
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.report.model import Gate
from exporter.targets import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreeing:
    """An int8 model and how far it agrees with the float one."""

    int8: QuantizedModel
    agreement: Agreement
    """On test images."""
    gate: Gate
    """Whether every output has the signal-to-noise ratio that is wanted."""


def quantize_any(config: BuildConfig, cache: Cache, target: Target) -> Agreeing:
    """Return the int8 model of the file that ``config.intake`` names, compared with it.

    Raises:
        ConfigError: something is asked for that takes classes.
        DataError, GraphError: the file cannot be quantized, or not with these images.
    """
    check_any(config, target)
    data, model = _float_network(config, cache)
    ranges = cache.run(calibrate, config.calibrate, model, data.calibration)
    names = (config.quantize.named_layers,) if config.quantize.named_layers else ()
    candidates = [
        cache.run(quantize, target, model, artifact, method, *names)
        for method, artifact in ranges.by_method.items()
    ]
    ratios = [
        cache.run(measure_agreement, model.file, int8.file, data.validation).worst_sqnr_db
        for int8 in candidates
    ]
    if len(candidates) > 1:
        listed = zip(candidates, ratios, strict=True)
        say(
            "Ranges on validation: "
            + ", ".join(f"{int8.method} {ratio:.2f} dB" for int8, ratio in listed)
        )
    best = candidates[max(range(len(candidates)), key=ratios.__getitem__)]
    agreement = cache.run(measure_agreement, model.file, best.file, data.test)
    limit = config.intake.min_sqnr
    worst = agreement.worst_sqnr_db
    return Agreeing(
        int8=best,
        agreement=agreement,
        gate=Gate(
            name="min-sqnr", limit=limit, unit="dB", measured=worst, passed=bool(worst >= limit)
        ),
    )


def check_any(config: BuildConfig, target: Target) -> None:
    """Raise ConfigError where ``--task any`` meets what counts right answers."""
    if config.correct != CorrectionConfig():
        raise ConfigError(
            "--task any has no classes that corrections could be judged by. Leave out --correct, "
            "--aware-epochs and --recover."
        )
    if config.quantize.float_layers == "slow":
        raise ConfigError(
            "--float-layers slow goes by classes on validation images, which --task any has not. "
            "Name the layers."
        )
    if target.file_format != "onnx" or target.fixed_batch or target.compact:
        raise ConfigError(
            f"--target {target.name} is for classifiers; --task any takes cpu-int8 and its kin."
        )
    check_float_layers(config.quantize, target)


def _float_network(config: BuildConfig, cache: Cache) -> tuple[Splits, OnnxModel]:
    path = Path(config.intake.onnx).expanduser()
    try:
        known = read_contract(parse_model(path))
    except GraphError:
        known = None
    if known is not None:
        model = read_onnx_model(path)
        if any(node.op_type == "QuantizeLinear" for node in parse_model(path).graph.node):
            raise GraphError(f"{path} is already quantized; bring the float file it was made from.")
        height, width = known.height, known.width
    else:
        with told_of(path):
            image = find_image(read_float_model(path), config.intake, parse_size(config.data.size))
        height, width = image.height, image.width
    data = load_splits(cache, dataclasses.replace(config.data, size=f"{height}x{width}"))
    if known is None:
        model = cache.run(
            take_in_any,
            dataclasses.replace(config.intake, onnx=""),
            files_of(path),
            stated_pixels(config.train),
            dataclasses.replace(data.contract, classes=()),
        )
    return dataclasses.replace(data, contract=model.contract), model
