"""The whole job, from images to a verified bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from exporter.artifacts import Cache, StageRun
from exporter.bundle import bundle, bundle_path, check_writable, write_failure
from exporter.config import BuildConfig, check_limits
from exporter.data.load import load_splits
from exporter.data.splits import Split
from exporter.graph.export import export_onnx
from exporter.graph.model import OnnxModel
from exporter.models import find_model
from exporter.pruning.criteria import find_criterion
from exporter.pruning.prune import Pruned, prune
from exporter.quantization.calibrate import calibrate, methods_of
from exporter.quantization.choose import choose_ranges
from exporter.quantization.quantize import QuantizedModel
from exporter.recipe import recipe_tables, recipe_text
from exporter.report.json import dumps
from exporter.report.markdown import markdown
from exporter.report.model import BuildReport
from exporter.report.provenance import (
    LayerWidth,
    PruningReport,
    QuantizationReport,
    StageReport,
)
from exporter.targets import Target, find_target
from exporter.training.train import parse_widths, train
from exporter.verification.verify import Candidate, verify


def build(config: BuildConfig, cache: Cache) -> BuildReport:
    """Train, prune, export, quantize, verify, and bundle what passed.

    Raises:
        ExporterError: the request cannot be honoured. A failed gate is no error: the report says
            so, and there is no bundle.
    """
    target = _checked(config)
    data = load_splits(cache, config.data)
    trained = cache.run(train, config.train, data)
    pruned = cache.run(prune, config.prune, target.channel_multiple, trained, data)
    dense = cache.run(export_onnx, trained.checkpoint)
    small = cache.run(export_onnx, pruned.checkpoint)
    ranges = cache.run(calibrate, config.calibrate, small, data.calibration)
    int8 = choose_ranges(cache, target, small, ranges, data.validation)
    report = verify(
        config.verify,
        cache,
        target.name,
        dense=_candidate(dense),
        small=_candidate(small) if pruned.rounds else None,
        int8=_candidate(int8),
        data=data.test,
        classes=data.contract.classes,
    )
    return _bundled(
        config,
        data.validation,
        int8,
        dataclasses.replace(
            report,
            pruning=_pruning_report(pruned, dense, small) if pruned.rounds else None,
            quantization=QuantizationReport(
                method=int8.method,
                images=ranges.images,
                integer=int8.coverage.integer,
                floating=int8.coverage.floating,
                seven_bit_layers=int8.seven_bit_layers,
            ),
            stages=tuple(_stage_report(run) for run in cache.runs),
            recipe=recipe_tables(config),
        ),
    )


def _checked(config: BuildConfig) -> Target:
    """Refuse before the long work what would fail after it; return the target."""
    check_limits(config)
    find_model(config.train.model)
    parse_widths(config.train.widths)
    find_criterion(config.prune.criterion, config.prune.unit)
    methods_of(config.calibrate)
    check_writable(Path(config.out))
    return find_target(config.target)


def _candidate(model: OnnxModel | QuantizedModel) -> Candidate:
    return Candidate(file=model.file, parameters=model.parameters, macs=model.macs)


def _pruning_report(pruned: Pruned, dense: OnnxModel, small: OnnxModel) -> PruningReport:
    return PruningReport(
        criterion=pruned.criterion,
        asked_share=pruned.asked,
        removed_share=pruned.removed,
        unit=pruned.unit,
        layers=tuple(
            LayerWidth(layer=name, before=before, after=after)
            for name, (before, after) in pruned.widths.items()
        ),
        parameters_before=dense.parameters,
        parameters_after=small.parameters,
        macs_before=dense.macs,
        macs_after=small.macs,
        fold_error=max(done.folded_error for done in pruned.rounds),
        shrink_error=max(done.shrunk_error for done in pruned.rounds),
    )


def _stage_report(run: StageRun) -> StageReport:
    return StageReport(name=run.name, seconds=run.seconds, cached=run.cached)


def _bundled(
    config: BuildConfig, validation: Split, int8: QuantizedModel, report: BuildReport
) -> BuildReport:
    """Write the bundle, or only the reports where a gate failed; return the report with its path.

    The report inside a bundle names the bundle, so it is written knowing where it will lie.
    """
    target = find_target(config.target)
    out = Path(config.out)
    name = config.train.model
    if report.passed:
        final = bundle_path(out, name, target)
        shipped = dataclasses.replace(report.models.int8, path=str(final / "model.onnx"))
        report = dataclasses.replace(
            report,
            bundle=str(final),
            models=dataclasses.replace(report.models, int8=shipped),
        )
        bundle(
            out,
            name=name,
            target=target,
            model=int8.file,
            contract=int8.contract,
            validation=validation,
            recipe=recipe_text(config),
            report_json=dumps(report),
            report_markdown=markdown(report),
        )
    else:
        write_failure(
            out,
            name=name,
            target=target,
            report_json=dumps(report),
            report_markdown=markdown(report),
        )
    return report
