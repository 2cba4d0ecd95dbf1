"""The whole job, from images to a verified bundle."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from exporter.artifacts import Cache, StageRun
from exporter.bundle import bundle, bundle_path, write_failure
from exporter.checkpoint import Checkpoint
from exporter.config import BuildConfig
from exporter.contract import InputContract
from exporter.data.load import load_splits
from exporter.data.splits import Split, Splits
from exporter.graph.export import export_onnx
from exporter.graph.model import OnnxModel
from exporter.intake.network import check_intake, own_network
from exporter.mixed.choose import check_float_layers
from exporter.models.foreign import short_name
from exporter.option import check_limits
from exporter.packing.place import check_writable
from exporter.pruning.criteria import find_criterion
from exporter.pruning.scores import check_criterion
from exporter.pruning.small import find_teacher, small_network
from exporter.quantization.audit import audit_saturation, saturates_somewhere
from exporter.quantization.calibrate import methods_of
from exporter.quantization.quantize import QuantizedModel
from exporter.recipe import recipe_tables, recipe_text
from exporter.recovery.quantized import quantized
from exporter.report.card import CARD, model_card
from exporter.report.files import report_files
from exporter.report.intake import IntakeReport
from exporter.report.model import BuildReport
from exporter.report.provenance import PruningReport, QuantizationReport, StageReport
from exporter.report.pruning import pruning_report
from exporter.report.saturation import saturation_report
from exporter.ship import Shipped, shipped_for
from exporter.targets import Target, check_plannable, find_target
from exporter.training.dense import check_dense, dense_network, normalized_data, weights_warnings
from exporter.verification.instruction_sets import find_emulators
from exporter.verification.verify import Candidate, verify


def build(config: BuildConfig, cache: Cache) -> BuildReport:
    """Train, prune, export, quantize, verify, and bundle what passed.

    A network that comes as an ONNX file is neither trained nor pruned.

    Raises:
        ExporterError: the request cannot be honoured. A failed gate is no error: the report says
            so, and there is no bundle.
    """
    target = checked(config)
    made = networks(config, cache, target)
    data, dense, small = made.data, made.dense, made.small
    int8, quantization = None, None
    if target.scheme == "int8":
        int8, quantization = quantized_model(config, cache, target, small, data)
    shipped = shipped_for(cache, target, int8 or small)
    report = verify(
        config.verify,
        cache,
        target,
        dense=_candidate(dense, made.trained),
        small=_candidate(small, made.pruned) if made.pruning else None,
        int8=None
        if int8 is None
        else dataclasses.replace(_candidate(int8), file=shipped.file, source=shipped.source),
        data=data.test,
        classes=data.contract.classes,
        budget=config.prune,
    )
    return _bundled(
        config,
        small.contract,
        data.validation,
        shipped,
        dataclasses.replace(
            report,
            intake=made.intake,
            pruning=made.pruning,
            quantization=quantization,
            stages=tuple(_stage_report(run) for run in cache.runs),
            warnings=made.warnings,
            recipe=recipe_tables(config),
        ),
    )


def checked(config: BuildConfig) -> Target:
    """Refuse before the long work what would fail after it; return the target."""
    check_limits(config)
    check_intake(config)
    check_dense(config.train)
    find_criterion(config.prune.criterion, config.prune.unit)
    methods_of(config.calibrate)
    target = find_target(config.target)
    check_plannable(target, config.prune.budget and config.prune.budget[0])
    check_float_layers(config.quantize, target)
    find_emulators(config.verify)
    check_writable(Path(config.out))
    return target


@dataclass(frozen=True, kw_only=True, slots=True)
class Networks:
    """The float networks of a build, and the images in the form that they take."""

    data: Splits
    dense: OnnxModel
    small: OnnxModel
    """What is quantized; the dense one where nothing was pruned."""
    trained: Checkpoint | None = None
    """What ``dense`` was exported from."""
    pruned: Checkpoint | None = None
    """What ``small`` was exported from."""
    pruning: PruningReport | None = None
    intake: IntakeReport | None = None
    warnings: tuple[str, ...] = ()


def networks(config: BuildConfig, cache: Cache, target: Target) -> Networks:
    """Return what was brought along, or else trained and pruned."""
    if config.intake.onnx:
        data, model, intake = own_network(cache, config)
        warnings = (intake.warning,) if intake.warning else ()
        return Networks(data=data, dense=model, small=model, intake=intake, warnings=warnings)
    data = normalized_data(load_splits(cache, config.data), config.train)
    check_criterion(config.prune, config.train, data.contract)
    teacher = find_teacher(config.prune, data)
    trained = dense_network(cache, config.train, data)
    pruned = small_network(cache, config.prune, target, trained, data, teacher)
    dense = cache.run(export_onnx, trained.checkpoint)
    small = cache.run(export_onnx, pruned.checkpoint)
    pruning = pruning_report(pruned, dense, small) if pruned.rounds else None
    return Networks(
        data=data,
        dense=dense,
        small=small,
        trained=trained.checkpoint,
        pruned=pruned.checkpoint,
        pruning=pruning,
        warnings=weights_warnings(trained),
    )


def quantized_model(
    config: BuildConfig, cache: Cache, target: Target, small: OnnxModel, data: Splits
) -> tuple[QuantizedModel, QuantizationReport]:
    """Return the int8 model of ``small``, and how it was made."""
    made = quantized(config, cache, target, small, data)
    int8 = made.int8
    calibration = data.calibration if saturates_somewhere(target) else None
    audit = cache.run(audit_saturation, int8.file, calibration)
    return int8, QuantizationReport(
        method=int8.method,
        images=made.images,
        aware_epochs=made.aware_epochs,
        integer=int8.coverage.integer,
        floating=int8.coverage.floating,
        reasons=int8.coverage.reasons,
        seven_bit_layers=int8.seven_bit_layers,
        saturation=saturation_report(audit),
        recovery=made.recovery,
        float_layers=made.float_layers,
    )


def _candidate(
    model: OnnxModel | QuantizedModel, checkpoint: Checkpoint | None = None
) -> Candidate:
    return Candidate(
        file=model.file,
        parameters=model.parameters,
        macs=model.macs,
        checkpoint=checkpoint,
    )


def _stage_report(run: StageRun) -> StageReport:
    return StageReport(name=run.name, seconds=run.seconds, cached=run.cached)


def _bundled(
    config: BuildConfig,
    contract: InputContract,
    validation: Split,
    shipped: Shipped,
    report: BuildReport,
) -> BuildReport:
    """Write the bundle, or only the reports where a gate failed; return the report with its path.

    The report inside a bundle names the bundle, so it is written knowing where it will lie.
    """
    target = find_target(config.target)
    out = Path(config.out)
    name = Path(config.intake.onnx).stem or short_name(config.train.model)
    if report.passed:
        final = bundle_path(out, name, target)
        moved = dataclasses.replace(report.shipped_model, path=str(final / target.file_name))
        report = dataclasses.replace(
            report,
            bundle=str(final),
            models=dataclasses.replace(report.models, **{report.shipped: moved}),
        )
        bundle(
            out,
            name=name,
            target=target,
            shipped=shipped,
            contract=contract,
            validation=validation,
            recipe=recipe_text(config),
            reports={
                **report_files(report),
                CARD: model_card(report, name, contract).encode(),
            },
        )
    else:
        write_failure(
            out,
            name=name,
            target=target,
            reports=report_files(report),
        )
    return report
