"""The stages of a build one by one, on files: what the command line's stage commands call.

A stage's folder holds its ``result.json`` beside its files, as in the cache, so one stage's output
is the next one's input, on this machine or another.
"""

from __future__ import annotations

import dataclasses
import shutil
from contextlib import suppress
from pathlib import Path

from pydantic_core import to_json

from exporter.agreement.quantize import Agreeing, quantize_any
from exporter.artifacts import RESULT, Artifact, Cache
from exporter.config import (
    SLOW_LAYERS,
    BuildConfig,
    CalibrationConfig,
    CorrectionConfig,
    DataConfig,
    PruneConfig,
    TrainConfig,
    VerifyConfig,
)
from exporter.data.load import load_splits
from exporter.errors import ConfigError, DataError, GraphError, OutputError
from exporter.finished import as_trained, load_checkpoint, load_stage
from exporter.graph.export import export_onnx
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.intake.network import own_network
from exporter.mixed.choose import check_float_layers, named_layers
from exporter.option import check_limits
from exporter.pruning.layer_times import machine_key
from exporter.pruning.pruned import Pruned
from exporter.pruning.sensitivity import Sensitivity, scan, scan_config
from exporter.pruning.sensitivity_plot import plot_sensitivity
from exporter.pruning.small import find_teacher, small_network
from exporter.quantization.calibrate import calibrate
from exporter.quantization.choose import choose_ranges
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.recovery.quantized import quantized
from exporter.recovery.sensitivity import QuantizationSensitivity, scan_layers
from exporter.report.float_layers import FloatLayersReport
from exporter.report.model import BuildReport
from exporter.report.recovery import RecoveryReport
from exporter.ship import shipped_for
from exporter.targets import check_plannable, check_quantizes, find_target
from exporter.training.dense import check_dense, dense_network, normalized_data
from exporter.training.train import Trained
from exporter.verification.verify import Candidate, verify


def train_files(data: DataConfig, config: TrainConfig, cache: Cache, out: Path) -> Trained:
    """Train a network, or take weights for it; put its checkpoint into the folder ``out``."""
    check_limits(config)
    check_dense(config)
    trained = dense_network(cache, config, normalized_data(load_splits(cache, data), config))
    _publish(trained.checkpoint.weights.path.parent, out)
    return trained


def prune_files(
    checkpoint: Path, data: DataConfig, config: PruneConfig, target: str, cache: Cache, out: Path
) -> Pruned:
    """Prune a checkpoint made by ``train_files`` and put the small one into ``out``."""
    check_limits(config)
    found = find_target(target)
    check_plannable(found, config.budget and config.budget[0])
    trained = load_stage(checkpoint, Trained)
    splits = as_trained(load_splits(cache, data), trained.checkpoint)
    teacher = find_teacher(config, splits)
    pruned = small_network(cache, config, found, trained, splits, teacher)
    _publish(pruned.checkpoint.weights.path.parent, out)
    return pruned


def sensitivity_files(
    checkpoint: Path, data: DataConfig, config: PruneConfig, target: str, cache: Cache, out: Path
) -> Sensitivity:
    """Scan a dense or pruned checkpoint; the result goes to ``out``, its plot beside it as .png."""
    plot = out.with_suffix(".png")
    if out.suffix != ".json":
        raise OutputError(f"--out is {out}, but must end in .json; the plot goes to {plot}.")
    scanned = load_checkpoint(checkpoint)
    splits = as_trained(load_splits(cache, data), scanned)
    found = cache.run(
        scan, scan_config(config), find_target(target), scanned, splits, machine_key()
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        plot_sensitivity(found, plot)
        out.write_bytes(to_json(found, indent=2) + b"\n")
    except OSError as error:
        raise OutputError(f"Cannot write {out}: {error.strerror}.") from error
    return found


def convert_files(checkpoint: Path, cache: Cache, out: Path) -> OnnxModel:
    """Export a dense or pruned checkpoint to the float ONNX file ``out``."""
    model = cache.run(export_onnx, load_checkpoint(checkpoint))
    _publish(model.file.path, out)
    return model


def calibrate_files(
    model: Path, data: DataConfig, config: CalibrationConfig, cache: Cache, out: Path
) -> tuple[Path, ...]:
    """Measure activation ranges; one method goes to the file ``out``, ``auto`` to a folder."""
    check_limits(config)
    splits = load_splits(cache, data)
    ranges = cache.run(calibrate, config, read_onnx_model(model), splits.calibration)
    if len(ranges.by_method) == 1:
        (artifact,) = ranges.by_method.values()
        _publish(artifact.path, out)
        return (out,)
    paths = []
    for method, artifact in ranges.by_method.items():
        path = out / f"{method}.json"
        _publish(artifact.path, path)
        paths.append(path)
    return tuple(paths)


def quantize_files(
    model: Path, ranges: Path | None, config: BuildConfig, cache: Cache, out: Path
) -> tuple[QuantizedModel, RecoveryReport | None, FloatLayersReport | None]:
    """Quantize a float ONNX file with ranges that were measured on it, or are measured now.

    Returns the int8 model and, where that was to be found out, what was tried to make it accurate
    and which layers stay float.
    Files that this tool did not write are wrapped to its contract first, as ``build --onnx`` does.
    Where the target wants an .ort file, the .onnx file it was made of and the operators it needs
    (.config) go beside it.
    """
    check_limits(config)
    if ranges is not None and not ranges.is_file():
        raise DataError(
            f"{ranges} is not a file. Make it with `exporter calibrate {model} --out {ranges}`."
        )
    found = find_target(config.target)
    check_quantizes(found)
    check_float_layers(config.quantize, found)
    if (out.suffix == ".ort") != (found.file_format == "ort"):
        raise OutputError(
            f"--out is {out}, but the file for {found.name} ends in .{found.file_format}."
        )
    if ranges is None:
        own = dataclasses.replace(config.intake, onnx=str(model))
        data, source, _ = own_network(cache, dataclasses.replace(config, intake=own))
        made = quantized(dataclasses.replace(config, intake=own), cache, found, source, data)
        int8, recovery, floats = made.int8, made.recovery, made.float_layers
    elif config.correct != CorrectionConfig():
        raise ConfigError(
            f"--ranges {ranges} is taken as it is, but corrections look at images. Leave out "
            "--ranges, or --correct, --aware-epochs and --recover."
        )
    elif config.quantize.float_layers == SLOW_LAYERS:
        raise ConfigError(
            f"--float-layers {SLOW_LAYERS} looks at images, which --ranges {ranges} does without. "
            "Leave out one of them, or name the layers."
        )
    else:
        source = read_onnx_model(model)
        recovery, floats = None, None
        if config.quantize.named_layers:
            floats = named_layers(config.quantize)
        names = (floats.layers,) if floats else ()
        int8 = cache.run(quantize, found, source, Artifact.of(ranges), ranges.stem, *names)
    shipped = shipped_for(cache, found, int8)
    for file in shipped.files.values():
        _publish(file.path, out if file == shipped.file else out.with_suffix(file.path.suffix))
    return int8, recovery, floats


def quantize_any_files(model: Path, config: BuildConfig, cache: Cache, out: Path) -> Agreeing:
    """Quantize a float ONNX file that is no classifier; ``out`` is written if it agrees enough."""
    check_limits(config)
    found = find_target(config.target)
    check_quantizes(found)
    if out.suffix == ".ort":
        raise OutputError(f"--out is {out}, but the file for {found.name} ends in .onnx.")
    own = dataclasses.replace(config.intake, onnx=str(model))
    made = quantize_any(dataclasses.replace(config, intake=own), cache, found)
    if made.gate.passed:
        _publish(made.int8.file.path, out)
    return made


def layer_sensitivity(model: Path, config: BuildConfig, cache: Cache) -> QuantizationSensitivity:
    """Return what each layer of a float ONNX file suffers from being quantized alone."""
    check_limits(config)
    found = find_target(config.target)
    check_quantizes(found)
    if config.intake.task == "any":
        raise ConfigError("--task any has no classes whose probabilities could move. Leave it out.")
    own = dataclasses.replace(config.intake, onnx=str(model))
    data, source, _ = own_network(cache, dataclasses.replace(config, intake=own))
    ranges = cache.run(calibrate, config.calibrate, source, data.calibration)
    method = choose_ranges(cache, found, source, ranges, data.validation).method
    return cache.run(scan_layers, found, source, ranges.by_method[method], data.calibration)


def verify_files(
    dense: Path,
    small: Path | None,
    int8: Path | None,
    data: DataConfig,
    config: VerifyConfig,
    target: str,
    cache: Cache,
) -> BuildReport:
    """Compare finished files on the test images and on this machine's clock."""
    check_limits(config)
    found = find_target(target)
    if int8 is None and small is None:
        raise ConfigError("There is nothing to compare with --dense. Give --int8, or --small.")
    splits = load_splits(cache, data)
    return verify(
        config,
        cache,
        found,
        dense=_candidate(dense),
        small=_candidate(small) if small else None,
        int8=_candidate(int8) if int8 else None,
        data=splits.test,
        classes=splits.contract.classes,
    )


def _candidate(path: Path) -> Candidate:
    """Return what is known of a file; of an .ort file, what the .onnx file beside it says."""
    if not path.is_file():
        raise GraphError(f"{path} is not a file.")
    model = read_onnx_model(path.with_suffix(".onnx") if path.suffix == ".ort" else path)
    return Candidate(
        file=Artifact.of(path),
        parameters=model.parameters,
        macs=model.macs,
        source=model.file,
    )


def _publish(source: Path, out: Path) -> None:
    """Copy a file or folder to ``out``, whole or not at all."""
    draft = out.with_name(f".{out.name}.draft")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(source, draft)
            if out.exists():
                if not (out / RESULT).is_file():
                    raise OutputError(f"{out} exists and is no checkpoint. Choose another --out.")
                shutil.rmtree(out)
        else:
            shutil.copyfile(source, draft)
        draft.replace(out)
    except OSError as error:
        raise OutputError(f"Cannot write {out}: {error.strerror}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with suppress(OSError):  # it was renamed, or was never written
            draft.unlink()
