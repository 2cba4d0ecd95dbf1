"""Accuracy and speed of the shipped model against the dense float model it came from.

The only reader of the test split. Accuracy follows from files alone and may come from the cache;
times are measured anew every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.artifacts import Artifact, Cache
from exporter.checkpoint import Checkpoint
from exporter.config import PruneConfig, VerifyConfig
from exporter.data.splits import Split
from exporter.errors import GraphError
from exporter.report.evidence import Evidence
from exporter.report.model import BuildReport, KernelGap, ModelReport, Models, ShippedModel
from exporter.targets import Target
from exporter.verification.accuracy import Accuracy, accuracy, compare, majority_top1, worst_class
from exporter.verification.attribution import attribute
from exporter.verification.class_names import check_class_names
from exporter.verification.cold_start import measure_starts
from exporter.verification.download import DownloadSize, download_size
from exporter.verification.evidence import accuracy_evidence, latency_evidence
from exporter.verification.gates import check_budget, check_gates
from exporter.verification.instruction_sets import (
    check_instruction_sets,
    emulate,
    find_emulators,
    report_instruction_sets,
)
from exporter.verification.latency import Timing, measure_latency
from exporter.verification.machine import describe_machine
from exporter.verification.predict import Predictions, predict, predict_in_float
from exporter.verification.predict_in_torch import predict_in_torch
from exporter.verification.settings import measure_settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A model to be measured."""

    file: Artifact
    """The file with the raw-bytes contract: what is measured are these bytes."""
    parameters: int
    macs: int
    source: Artifact | None = None
    """The .onnx file that ``file`` was made of, where that is optimized and no longer QDQ."""
    checkpoint: Checkpoint | None = None
    """The torch network that a float file was exported from, where there is one."""


def verify(
    config: VerifyConfig,
    cache: Cache,
    target: Target,
    dense: Candidate,
    small: Candidate | None,
    int8: Candidate | None,
    data: Split,
    classes: tuple[str, ...],
    budget: PruneConfig | None = None,
) -> BuildReport:
    """Return the report on what ships, gated against ``dense``; ``bundle`` is left empty.

    What ships is the last of the models that there are: ``int8``, else ``small``, else ``dense``.
    Where ``budget`` limits the bytes or the time of the file, that is a gate, too.

    Raises:
        ConfigError: more threads than cores.
        EmulationError: an instruction set that is asked for cannot be emulated.
        DataError: ``data`` is empty or does not fit the models.
        GraphError: a file does not load, breaks the contract, or gives logits that are not finite
            or not one per class, or means other classes than ``classes`` by them.
    """
    emulators = find_emulators(config)
    candidates: dict[ShippedModel, Candidate | None] = {
        "dense": dense,
        "small": small,
        "int8": int8,
    }
    present = {name: model for name, model in candidates.items() if model is not None}
    shipped = list(present)[-1]
    for model in present.values():
        check_class_names(model.file, classes)
    images, labels = data.arrays()
    logits = {
        name: _logits(cache.run(predict, model.file, data), model, classes)
        for name, model in present.items()
    }
    networks = {
        name: _logits(cache.run(predict_in_torch, model.checkpoint, data), model, classes)
        for name, model in present.items()
        if model.checkpoint is not None
    }
    gap = None if int8 is None else _kernel_gap(cache, int8, logits["int8"], data, classes)
    emulated = emulate(config, cache, emulators, present[shipped].file, data)
    files: dict[str, Artifact] = {name: model.file for name, model in present.items()}
    machine = describe_machine()  # before timing adds a load of its own
    latency = measure_latency(
        config,
        files,
        images[0],
        baseline="dense",
        candidate=shipped,
    )
    pair = logits["dense"], logits[shipped]
    change = compare(*pair, labels)
    lost, times = change.drop_points, latency.speedup.value
    if config.confidence:
        lost = compare(*pair, labels, config.confidence).drop_ci[1]
        times = latency.speedup_bound
    # Where nobody gave the pruned float file, the int8 file tells by its size that there was one.
    pruned = shipped == "int8" and small is None and present[shipped].parameters < dense.parameters
    steps = attribute(logits, networks, labels, pruned_unseen=pruned)
    proof = Evidence(
        accuracy=accuracy_evidence(*pair, labels, classes, steps),
        latency=latency_evidence(
            latency,
            measure_settings(config, dense.file, present[shipped].file, images[0]),
            measure_starts(files, threads=config.threads),
        )
        if config.thorough
        else latency_evidence(latency),
    )
    models = {
        name: _model_report(
            model,
            accuracy(logits[name], labels),
            latency.timings[name],
            cache.run(download_size, model.file),
        )
        for name, model in present.items()
    }
    sets = report_instruction_sets(
        target, machine, models[shipped], emulated, logits[shipped], labels
    )
    gates = check_gates(config, target, lost, times, beyond_noise=proof.latency.beyond_noise)
    gates += check_instruction_sets(config, lost, sets)
    if budget is not None:
        gates += check_budget(budget, models[shipped])
    return BuildReport(
        passed=all(gate.passed for gate in gates),
        target=target.name,
        shipped=shipped,
        bundle=None,
        models=Models(dense=models["dense"], small=models.get("small"), int8=models.get("int8")),
        drop_points=change.drop_points,
        drop_ci=change.drop_ci,
        changed_share=change.changed_share,
        flips=change.flips,
        worst_class=worst_class(proof.accuracy.classes),
        majority_top1=majority_top1(labels),
        kernel_gap=gap,
        speedup=latency.speedup.value,
        speedup_ci=(latency.speedup.low, latency.speedup.high),
        size_ratio=models[shipped].bytes / models["dense"].bytes,
        instruction_sets=sets,
        gates=gates,
        threads=config.threads,
        pinned_cores=latency.pinned_cores,
        machine=machine,
        evidence=proof,
    )


def _kernel_gap(
    cache: Cache,
    int8: Candidate,
    logits: NDArray[np.float32],
    data: Split,
    classes: tuple[str, ...],
) -> KernelGap:
    control = cache.run(predict_in_float, int8.source or int8.file, data)
    change = compare(_logits(control, int8, classes), logits, data.arrays()[1])
    return KernelGap(drop_points=change.drop_points, changed_share=change.changed_share)


def _logits(
    predictions: Predictions, model: Candidate, classes: tuple[str, ...]
) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = np.load(predictions.logits.path)
    if logits.shape[1] != len(classes):
        raise GraphError(
            f"{model.file.path} tells {logits.shape[1]} classes apart, but the data has "
            f"{len(classes)}."
        )
    return logits


def _model_report(
    model: Candidate, measured: Accuracy, timing: Timing, download: DownloadSize
) -> ModelReport:
    return ModelReport(
        path=str(model.file.path),
        sha256=model.file.sha256,
        bytes=model.file.path.stat().st_size,
        gzip_bytes=download.gzip_bytes,
        zstd_bytes=download.zstd_bytes,
        parameters=model.parameters,
        macs=model.macs,
        top1=measured.top1,
        correct=measured.correct,
        total=measured.total,
        p50_ms=timing.p50_ms,
        p90_ms=timing.p90_ms,
        runs=timing.runs,
        p50_ci_ms=timing.p50_ci_ms,
        p99_ms=timing.p99_ms,
    )
