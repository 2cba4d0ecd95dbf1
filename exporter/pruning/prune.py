"""The stage that makes the dense network small.

First goes what changes nothing. Then each round scores what is left, masks the lowest, folds the
masks into the weights, removes masked channels physically, measures the batch-norms' statistics
anew and lets the network recover. Recovery runs on the shrunk network: it computes the same
function as the masked one in a fraction of the time.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from exporter.artifacts import RESUME
from exporter.checkpoint import Checkpoint, restore, save_checkpoint
from exporter.config import PruneConfig
from exporter.data.splits import Splits
from exporter.errors import ConfigError
from exporter.progress import say
from exporter.pruning.allocation import Curve
from exporter.pruning.budget import cost_function
from exporter.pruning.cost import Cost, Device
from exporter.pruning.criteria import find_criterion
from exporter.pruning.exact_removal import remove_dead_channels
from exporter.pruning.groups import find_coupling
from exporter.pruning.pruned import Budget, Pruned, Round
from exporter.pruning.recovery import (
    Distillation,
    fine_tune,
    fine_tune_both_ways,
    fine_tuning_lesson,
)
from exporter.pruning.rounds import Rules, Work, remove_round
from exporter.pruning.schedule import epochs_of_rounds
from exporter.training.batch_norm import reestimate_batch_norms
from exporter.training.loop import History, evaluate
from exporter.training.train import Trained

VERSION = 5


def prune(
    out: Path,
    config: PruneConfig,
    channel_multiple: int,
    trained: Trained,
    data: Splits,
    *,
    device: Device | None = None,
    teacher: Checkpoint | None = None,
    curves: Mapping[str, Curve] | None = None,
) -> Pruned:
    """Remove a share of channels or weights, or as many as a budget asks; fine-tune what is left.

    Only training, calibration and validation images are used. With a share of 0, or a budget that
    the network meets as it is, the network comes back as it was.

    Args:
        out: folder for the weights.
        config: share or budget, criterion, schedule and recovery.
        channel_multiple: kept widths are multiples of this.
        trained: the dense network.
        data: the images.
        device: where the file will run; needed for a budget in bytes or milliseconds.
        teacher: whose opinion fine-tuning learns from; the dense network where None.
        curves: what each group can lose, by a scan; needed for the scope ``sensitivity``.

    Raises:
        ConfigError: unknown criterion, or one that this network or unit is not made for; a budget
            that cannot be reached.
        GraphError: the smaller network doesn't compute what the masked one does.
    """
    criterion = find_criterion(config.criterion, config.unit)
    dense = restore(trained.checkpoint)
    coupling = find_coupling(dense, data.contract)
    groups = coupling.groups
    cost = None
    if config.budget:
        cost = cost_function(
            config.budget[0], dense, groups, data.contract, channel_multiple, device
        )
    rules = Rules(
        config=config,
        criterion=criterion,
        seed=trained.lesson.seed,
        channel_multiple=channel_multiple,
        cost=cost,
        curves=curves or {},
        data=data,
    )
    work = Work(
        module=copy.deepcopy(dense),
        widths={group.name: group.width for group in groups},
        kept={group.name: tuple(range(group.width)) for group in groups},
    )
    mentor = restore(teacher) if teacher else dense
    dead = 0
    rounds: list[Round] = []
    distillation = None
    if _something_to_do(config, cost, work):
        if config.unit == "channels":
            dead = remove_dead_channels(work, rules)
        for index in range(config.rounds):
            agreement = remove_round(work, rules, index + 1)
            reestimate_batch_norms(work.module, data.contract, data.train)
            before = evaluate(work.module, data.contract, data.validation)
            history, distillation = _recover(
                work, mentor, config, index, trained, data, out / RESUME / f"round-{index + 1}"
            )
            after = evaluate(work.module, data.contract, data.validation)
            rounds.append(
                Round(
                    removed=work.removed(),
                    folded_error=agreement.folded_error,
                    shrunk_error=agreement.shrunk_error,
                    validation_before=before,
                    validation_after=after,
                    history=history,
                )
            )
            say(
                f"Pruned {100 * work.removed():.0f} % of the {config.unit}: {before:.2f} % on "
                f"validation images right after, {after:.2f} % once fine-tuned."
            )
    return Pruned(
        checkpoint=save_checkpoint(
            out, work.module, trained.checkpoint.model, data.contract, work.kept
        ),
        criterion=config.criterion,
        unit=config.unit,
        asked=None if config.budget else config.share,
        budget=_budget(config, cost, work.module),
        removed=work.removed(),
        dead=dead,
        widths={name: (width, len(work.kept[name])) for name, width in work.widths.items()},
        fixed=coupling.fixed,
        rounds=tuple(rounds),
        distillation=distillation,
    )


def _something_to_do(config: PruneConfig, cost: Cost | None, work: Work) -> bool:
    if config.budget and cost:
        name, limit = config.budget
        needed = cost(work.module) > limit
        if not needed:
            say(f"The dense network is within --{name.replace('_', '-')} {limit:g} as it is.")
    else:
        needed = config.share > 0
    if needed and config.unit == "channels" and not work.widths:
        raise ConfigError(
            "No layer of this network can lose channels. Use --prune 0 or --unit weights."
        )
    return needed


def _budget(config: PruneConfig, cost: Cost | None, module: nn.Module) -> Budget | None:
    if config.budget is None or cost is None:
        return None
    name, limit = config.budget
    return Budget(name=name.replace("_", "-"), limit=limit, planned=cost(module))


def _recover(
    work: Work,
    teacher: nn.Module,
    config: PruneConfig,
    index: int,
    trained: Trained,
    data: Splits,
    resume: Path,
) -> tuple[History | None, Distillation | None]:
    """Fine-tune after round ``index``, counted from 0."""
    total = config.finetune_epochs or trained.epochs
    epochs = epochs_of_rounds(total, config.rounds)[index]
    if epochs == 0:
        return None, None
    lesson = fine_tuning_lesson(trained.lesson, config, epochs=epochs, index=index)
    last = index + 1 == config.rounds
    title = "Fine-tuning" if config.rounds == 1 else f"Fine-tuning {index + 1}/{config.rounds}"
    if config.distill_auto and last:
        return fine_tune_both_ways(
            work.module, work.masks, lesson, data, teacher=teacher, title=title, resume=resume
        )
    history = fine_tune(
        work.module,
        work.masks,
        lesson,
        data,
        teacher=teacher if config.distill else None,
        title=title,
        resume=resume,
    )
    return history, None
