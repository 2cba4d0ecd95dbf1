"""What the report says about pruning."""

from __future__ import annotations

from exporter.graph.model import OnnxModel
from exporter.pruning.pruned import Pruned
from exporter.report.provenance import (
    BudgetReport,
    DistillationReport,
    LayerWidth,
    LeftAlone,
    PruningReport,
    RoundReport,
)


def pruning_report(pruned: Pruned, dense: OnnxModel, small: OnnxModel) -> PruningReport:
    """Return the report on a network that went through at least one round."""
    budget, found = pruned.budget, pruned.distillation
    return PruningReport(
        criterion=pruned.criterion,
        unit=pruned.unit,
        asked_share=pruned.asked,
        budget=BudgetReport(name=budget.name, limit=budget.limit, planned=budget.planned)
        if budget
        else None,
        removed_share=pruned.removed,
        dead_channels=pruned.dead,
        rounds=tuple(
            RoundReport(
                removed_share=done.removed,
                top1_before=done.validation_before,
                top1_after=done.validation_after,
                epochs=len(done.history.epochs) if done.history else 0,
            )
            for done in pruned.rounds
        ),
        distillation=DistillationReport(
            top1_with=found.with_teacher, top1_without=found.without_teacher
        )
        if found
        else None,
        layers=tuple(
            LayerWidth(layer=name, before=before, after=after)
            for name, (before, after) in pruned.widths.items()
        ),
        left_alone=tuple(
            LeftAlone(layer=fixed.layer, width=fixed.width, reason=fixed.reason)
            for fixed in pruned.fixed
        ),
        parameters_before=dense.parameters,
        parameters_after=small.parameters,
        macs_before=dense.macs,
        macs_after=small.macs,
        fold_error=max(done.folded_error for done in pruned.rounds),
        shrink_error=max(done.shrunk_error for done in pruned.rounds),
    )
