"""The stage that makes the dense network small.

Each round scores what is left, masks the lowest, folds the masks into the weights, removes masked
channels physically and lets the network recover. Recovery runs on the shrunk network: it computes
the same function as the masked one in a fraction of the time.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from exporter.artifacts import RESUME
from exporter.checkpoint import Checkpoint, restore, save_checkpoint
from exporter.config import PruneConfig
from exporter.contract import InputContract
from exporter.data.splits import Split, Splits
from exporter.errors import GraphError
from exporter.progress import say
from exporter.pruning.criteria import Criterion, find_criterion
from exporter.pruning.evidence import Batches
from exporter.pruning.groups import find_groups
from exporter.pruning.masks import fold, mask_channels, mask_weights
from exporter.pruning.scores import score_channels, score_weights
from exporter.pruning.shrink import shrink_groups
from exporter.pruning.threshold import rounded_width, strongest, survivors
from exporter.training.augmentation import normalise
from exporter.training.loop import History, evaluate, fit
from exporter.training.train import Trained

VERSION = 3

TOLERANCE = 1e-4
"""Largest accepted difference of logits, relative to the largest logit: float32 sums in another
order. Folding alone must be exact."""
PROBE_IMAGES = 16
EVIDENCE_BATCH = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """One round of pruning."""

    removed: float
    """Share of channels (or weights) gone so far."""
    folded_error: float
    """Largest difference between masked and folded logits, relative to the largest logit."""
    shrunk_error: float
    """The same between folded and shrunk."""
    validation_before: float
    """Top-1 in percent right after the removal."""
    validation_after: float
    """Top-1 in percent after fine-tuning."""
    history: History | None = field(compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """The small network: folded, shrunk and fine-tuned."""

    checkpoint: Checkpoint
    criterion: str
    unit: str
    asked: float
    """The share that was to be removed."""
    removed: float
    """The share that was removed, after rounding to the target's channel multiple."""
    widths: Mapping[str, tuple[int, int]]
    """Channels of each group before and after."""
    rounds: tuple[Round, ...]


@dataclass(slots=True, kw_only=True)
class _Work:
    """The network between rounds, and the rules that hold in every round."""

    module: nn.Module
    kept: dict[str, tuple[int, ...]]
    """Channels that are left, as indices into the dense network."""
    masks: dict[str, Tensor]
    """Weights that are left, where single weights are removed."""
    widths: Mapping[str, int]
    """Channels of each group in the dense network."""
    config: PruneConfig
    criterion: Criterion
    seed: int
    channel_multiple: int
    contract: InputContract

    def removed(self) -> float:
        """Return the share of channels (or, with weight masks, of weights) that are gone."""
        if self.masks:
            zeros = sum(int((mask == 0).sum()) for mask in self.masks.values())
            return zeros / sum(mask.numel() for mask in self.masks.values())
        before = sum(self.widths.values())
        return 1 - sum(map(len, self.kept.values())) / before if before else 0.0


def prune(
    out: Path, config: PruneConfig, channel_multiple: int, trained: Trained, data: Splits
) -> Pruned:
    """Remove the share ``config.prune`` of channels or weights and fine-tune what is left.

    Only training, calibration and validation images are used. With a share of 0 the network comes
    back as it was.

    Args:
        out: folder for the weights.
        config: share, criterion, schedule and recovery.
        channel_multiple: kept widths are multiples of this.
        trained: the dense network; it is also the teacher.
        data: the images.

    Raises:
        ConfigError: unknown criterion, or one that this network or unit is not made for.
        GraphError: the smaller network doesn't compute what the masked one does.
    """
    criterion = find_criterion(config.criterion, config.unit)
    dense = restore(trained.checkpoint)
    groups = find_groups(dense, data.contract)
    work = _Work(
        module=copy.deepcopy(dense),
        kept={group.name: tuple(range(group.width)) for group in groups},
        masks={},
        widths={group.name: group.width for group in groups},
        config=config,
        criterion=criterion,
        seed=trained.lesson.seed,
        channel_multiple=channel_multiple,
        contract=data.contract,
    )
    remove = _remove_channels if config.unit == "channels" else _remove_weights
    rounds: list[Round] = []
    for index in range(config.rounds if config.share else 0):
        share = config.share * (index + 1) / config.rounds
        batches = _batches(data.calibration, data.contract)
        probe = next(_batches(data.calibration, data.contract))[0][:PROBE_IMAGES]
        folded_error, shrunk_error = remove(work, share, batches, probe)
        before = evaluate(work.module, data.contract, data.validation)
        history = _recover(
            work, dense, index, trained, data, resume=out / RESUME / f"round-{index + 1}"
        )
        after = evaluate(work.module, data.contract, data.validation)
        rounds.append(
            Round(
                removed=work.removed(),
                folded_error=folded_error,
                shrunk_error=shrunk_error,
                validation_before=before,
                validation_after=after,
                history=history,
            )
        )
        say(
            f"Pruned {100 * work.removed():.0f} % of the {config.unit}: "
            f"{before:.2f} % on validation images right after, {after:.2f} % once fine-tuned."
        )
    return Pruned(
        checkpoint=save_checkpoint(
            out, work.module, trained.checkpoint.model, data.contract, work.kept
        ),
        criterion=config.criterion,
        unit=config.unit,
        asked=config.share,
        removed=work.removed(),
        widths={name: (width, len(work.kept[name])) for name, width in work.widths.items()},
        rounds=tuple(rounds),
    )


def _batches(data: Split, contract: InputContract) -> Iterator[tuple[Tensor, Tensor]]:
    images, labels = data.arrays()
    for start in range(0, data.count, EVIDENCE_BATCH):
        stop = start + EVIDENCE_BATCH
        pixels = normalise(torch.from_numpy(images[start:stop].copy()), contract)
        yield pixels, torch.from_numpy(labels[start:stop])


def _remove_channels(
    work: _Work, share: float, batches: Batches, probe: Tensor
) -> tuple[float, float]:
    groups = find_groups(work.module, work.contract)
    scores = score_channels(
        work.criterion,
        work.module,
        groups,
        batches,
        alpha=work.config.alpha,
        seed=work.seed,
    )
    removed = {group.name: work.widths[group.name] - group.width for group in groups}
    counts = survivors(
        scores, removed, share, work.config.scope, comparable=work.criterion.comparable
    )
    chosen = {
        group.name: strongest(
            scores[group.name],
            rounded_width(counts[group.name], group.width, work.channel_multiple),
        )
        for group in groups
    }
    errors = _checked(
        work.module,
        probe,
        mask=lambda module: mask_channels(module, groups, chosen),
        shrink=lambda module: shrink_groups(module, groups, chosen),
    )
    work.kept = {
        name: tuple(work.kept[name][channel] for channel in channels)
        for name, channels in chosen.items()
    }
    return errors


def _remove_weights(
    work: _Work, share: float, batches: Batches, probe: Tensor
) -> tuple[float, float]:
    found = score_weights(
        work.criterion, work.module, batches, alpha=work.config.alpha, seed=work.seed
    )
    weights = {name: work.module.get_parameter(f"{name}.weight") for name in found}
    alive = {
        name: work.masks.get(name, torch.ones_like(weight)) > 0 for name, weight in weights.items()
    }
    scores = {name: values[alive[name]] for name, values in found.items()}
    removed = {name: int((~alive[name]).sum()) for name in weights}
    counts = survivors(
        scores, removed, share, work.config.scope, comparable=work.criterion.comparable
    )
    for name, weight in weights.items():
        best = torch.zeros(scores[name].numel())
        best[torch.tensor(strongest(scores[name], counts[name]), dtype=torch.long)] = 1
        work.masks[name] = torch.zeros_like(weight).masked_scatter(alive[name], best)
    return _checked(
        work.module,
        probe,
        mask=lambda module: mask_weights(module, work.masks),
        shrink=lambda module: None,
    )


def _checked(
    module: nn.Module,
    probe: Tensor,
    mask: Callable[[nn.Module], None],
    shrink: Callable[[nn.Module], None],
) -> tuple[float, float]:
    """Mask, fold and shrink ``module``; return both errors or raise GraphError."""
    module.eval()
    with torch.no_grad():
        mask(module)
        masked = module(probe)
        fold(module)
        folded = module(probe)
        shrink(module)
        small = module(probe)
    scale = float(masked.abs().max().clamp(min=1e-12))
    folded_error = float((folded - masked).abs().max()) / scale
    shrunk_error = float((small - folded).abs().max()) / scale
    if folded_error > 0 or not shrunk_error <= TOLERANCE:
        raise GraphError(
            f"The pruned network differs from the masked one: by {folded_error:.1e} after folding "
            f"(limit 0) and {shrunk_error:.1e} after shrinking (limit {TOLERANCE:.0e}). "
            "Use --unit weights for this network."
        )
    return folded_error, shrunk_error


def _recover(
    work: _Work, dense: nn.Module, index: int, trained: Trained, data: Splits, resume: Path
) -> History | None:
    """Fine-tune after round ``index``; the epochs are spread evenly over the rounds."""
    config = work.config
    total = config.finetune_epochs or len(trained.history.epochs)
    epochs = total * (index + 1) // config.rounds - total * index // config.rounds
    if epochs == 0:
        return None
    lesson = dataclasses.replace(
        trained.lesson,
        epochs=epochs,
        minutes=0.0,
        learning_rate=config.finetune_rate or trained.lesson.learning_rate / 2,
        seed=trained.lesson.seed + 1 + index,
        distill=config.distill,
        temperature=config.temperature,
    )

    @torch.no_grad()
    def keep_masked() -> None:
        for name, mask in work.masks.items():
            weight = work.module.get_parameter(f"{name}.weight")
            weight.mul_(mask.to(weight.device))

    return fit(
        work.module,
        lesson,
        data.contract,
        data.train,
        data.validation,
        title="Fine-tuning" if config.rounds == 1 else f"Fine-tuning {index + 1}/{config.rounds}",
        teacher=dense if config.distill else None,
        constrain=keep_masked if work.masks else None,
        resume=resume,
    )
