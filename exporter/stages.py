"""The stages of a build one by one, on files: what the command line's stage commands call.

A stage's folder holds its ``result.json`` beside its files, as in the cache, so one stage's output
is the next one's input, on this machine or another.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from exporter.artifacts import RESULT, Artifact, Cache, load_result
from exporter.checkpoint import Checkpoint
from exporter.config import (
    CalibrationConfig,
    DataConfig,
    PruneConfig,
    TrainConfig,
    VerifyConfig,
    check_limits,
)
from exporter.data.load import load_splits
from exporter.data.splits import Splits
from exporter.errors import CacheError, DataError, ModelError, OutputError
from exporter.graph.export import export_onnx
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.pruning.prune import Pruned, prune
from exporter.quantization.calibrate import calibrate
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.report.model import BuildReport
from exporter.targets import find_target
from exporter.training.train import Trained, train
from exporter.verification.verify import Candidate, verify

T = TypeVar("T")


def train_files(data: DataConfig, config: TrainConfig, cache: Cache, out: Path) -> Trained:
    """Train a network and put its checkpoint into the folder ``out``."""
    check_limits(config)
    trained = cache.run(train, config, load_splits(cache, data))
    _publish(trained.checkpoint.weights.path.parent, out)
    return trained


def prune_files(
    checkpoint: Path, data: DataConfig, config: PruneConfig, target: str, cache: Cache, out: Path
) -> Pruned:
    """Prune a checkpoint made by ``train_files`` and put the small one into ``out``."""
    check_limits(config)
    multiple = find_target(target).channel_multiple
    trained = _loaded(checkpoint, Trained)
    splits = load_splits(cache, data)
    _check_same_classes(trained.checkpoint, splits)
    pruned = cache.run(prune, config, multiple, trained, splits)
    _publish(pruned.checkpoint.weights.path.parent, out)
    return pruned


def convert_files(checkpoint: Path, cache: Cache, out: Path) -> OnnxModel:
    """Export a dense or pruned checkpoint to the float ONNX file ``out``."""
    model = cache.run(export_onnx, _checkpoint(checkpoint))
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
    model: Path, ranges: Path, target: str, cache: Cache, out: Path
) -> QuantizedModel:
    """Quantize a float ONNX file with ranges that were measured on it."""
    if not ranges.is_file():
        raise DataError(
            f"{ranges} is not a file. Make it with `exporter calibrate {model} --out {ranges}`."
        )
    found = find_target(target)
    source = read_onnx_model(model)
    quantized = cache.run(quantize, found, source, Artifact.of(ranges), ranges.stem)
    _publish(quantized.file.path, out)
    return quantized


def verify_files(
    dense: Path,
    small: Path | None,
    int8: Path,
    data: DataConfig,
    config: VerifyConfig,
    target: str,
    cache: Cache,
) -> BuildReport:
    """Compare finished files on the test images and on this machine's clock."""
    check_limits(config)
    find_target(target)
    splits = load_splits(cache, data)
    return verify(
        config,
        cache,
        target,
        dense=_candidate(dense),
        small=_candidate(small) if small else None,
        int8=_candidate(int8),
        data=splits.test,
        classes=splits.contract.classes,
    )


def _candidate(path: Path) -> Candidate:
    model = read_onnx_model(path)
    return Candidate(file=model.file, parameters=model.parameters, macs=model.macs)


def _loaded(folder: Path, kind: type[T]) -> T:
    if not (folder / RESULT).is_file():
        raise ModelError(
            f"{folder} is not a checkpoint: it has no {RESULT}. "
            "Make one with `exporter train --out FOLDER`."
        )
    try:
        return load_result(folder, kind)
    except CacheError as error:
        raise ModelError(
            f"{folder / RESULT} does not describe a {kind.__name__.lower()} network."
        ) from error


def _checkpoint(folder: Path) -> Checkpoint:
    try:
        return _loaded(folder, Pruned).checkpoint
    except ModelError:
        return _loaded(folder, Trained).checkpoint


def _check_same_classes(checkpoint: Checkpoint, data: Splits) -> None:
    known, found = checkpoint.contract, data.contract
    if known != found:
        raise DataError(
            f"The checkpoint was trained on {len(known.classes)} classes at "
            f"{known.height}x{known.width} pixels, but --data has {len(found.classes)} at "
            f"{found.height}x{found.width}, or other names. Use the data it was trained on."
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
