"""The layers that are to stay float, named or found."""

from __future__ import annotations

from exporter.artifacts import Cache
from exporter.config import NO_LAYERS, SLOW_LAYERS, QuantizeConfig
from exporter.data.splits import Split
from exporter.errors import ConfigError
from exporter.graph.model import OnnxModel
from exporter.mixed.padded_stem import pad_stem
from exporter.mixed.slow_layers import find_slow_layers
from exporter.pruning.layer_times import machine_key
from exporter.quantization.calibrate import Calibrated
from exporter.quantization.quantize import QuantizedModel
from exporter.report.float_layers import FloatLayersReport
from exporter.targets import Target
from exporter.verification.instruction_sets import machine_isa
from exporter.verification.machine import describe_machine


def check_float_layers(config: QuantizeConfig, target: Target) -> None:
    """Raise ConfigError where layers are asked for that this machine cannot find for ``target``."""
    if config.float_layers == NO_LAYERS:
        return
    if target.scheme == "float":
        raise ConfigError(
            f"--float-layers {config.float_layers} is about int8 files, but --target {target.name} "
            "ships a float one. Leave one of them out."
        )
    own = machine_isa(describe_machine())
    if config.float_layers == SLOW_LAYERS and own not in target.isas:
        raise ConfigError(
            f"--float-layers {SLOW_LAYERS} goes by times on this machine ({own}), but "
            f"{target.name} is for {', '.join(target.isas)}. Name the layers, or leave it out."
        )


def float_layers(
    config: QuantizeConfig,
    cache: Cache,
    target: Target,
    model: OnnxModel,
    ranges: Calibrated,
    method: str,
    validation: Split,
) -> FloatLayersReport | None:
    """Return the layers that stay float for ``config``, and whether to pad the stem.

    Args:
        config: names them, asks for the slow ones or for none.
        cache: remembers what was found for this machine.
        target: what the file is for.
        model: the float model.
        ranges: its activation ranges.
        method: the range method to go by.
        validation: the images that decide.

    Raises:
        ConfigError: see ``check_float_layers``.
        GraphError, CoverageError: the model cannot be quantized.
    """
    check_float_layers(config, target)
    if config.float_layers == NO_LAYERS:
        return None
    if config.float_layers == SLOW_LAYERS:
        artifact = ranges.by_method[method]
        return cache.run(
            find_slow_layers, target, model, artifact, method, validation, machine_key()
        )
    return named_layers(config)


def named_layers(config: QuantizeConfig) -> FloatLayersReport:
    """Return the report on layers that are named."""
    return FloatLayersReport(
        asked=config.float_layers,
        layers=config.named_layers,
        padded_stem=None,
        images=0,
        correct=0,
        trials=(),
        time_ratio=None,
        time_ratio_ci=None,
    )


def with_stem(
    cache: Cache, target: Target, int8: QuantizedModel, found: FloatLayersReport | None
) -> QuantizedModel:
    """Return ``int8`` with its stem padded, if that is faster and the stem is still an integer."""
    if found is None or found.padded_stem in (None, *int8.float_layers):
        return int8
    return cache.run(pad_stem, target, int8)
