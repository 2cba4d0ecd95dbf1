"""Fine-tuning of a pruned network: with a teacher's opinion, and with its best epoch kept."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from exporter.config import PruneConfig
from exporter.data.splits import Splits
from exporter.progress import say
from exporter.training.loop import History, Lesson, evaluate, fit


@dataclass(frozen=True, kw_only=True, slots=True)
class Distillation:
    """What the teacher brought: the same fine-tuning with and without it."""

    with_teacher: float
    """Top-1 on validation images in percent."""
    without_teacher: float


def fine_tuning_lesson(lesson: Lesson, config: PruneConfig, *, epochs: int, index: int) -> Lesson:
    """Return the recipe of fine-tuning after round ``index`` (from 0), from that of training."""
    return dataclasses.replace(
        lesson,
        epochs=epochs,
        minutes=0.0,
        learning_rate=config.finetune_rate or lesson.learning_rate / 2,
        seed=lesson.seed + 1 + index,
        distill=config.distill,
        temperature=config.temperature,
    )


def fine_tune(
    module: nn.Module,
    masks: Mapping[str, Tensor],
    lesson: Lesson,
    data: Splits,
    *,
    teacher: nn.Module | None,
    title: str,
    resume: Path,
) -> History:
    """Train ``module`` in place; weights that are masked stay zero.

    Args:
        module: the pruned network.
        masks: by layer, for single weights; empty where whole channels are gone.
        lesson: epochs, rate, and the weight of the teacher's opinion.
        data: the training images teach, the validation images choose the epoch.
        teacher: None where ``lesson`` gives it no weight.
        title: what the progress line says.
        resume: folder for the state of a killed run.
    """

    @torch.no_grad()
    def keep_masked() -> None:
        for name, mask in masks.items():
            weight = module.get_parameter(f"{name}.weight")
            weight.mul_(mask.to(weight.device))

    return fit(
        module,
        lesson,
        data.contract,
        data.train,
        data.validation,
        title=title,
        teacher=teacher,
        constrain=keep_masked if masks else None,
        keep_best=True,
        resume=resume,
    )


def fine_tune_both_ways(
    module: nn.Module,
    masks: Mapping[str, Tensor],
    lesson: Lesson,
    data: Splits,
    *,
    teacher: nn.Module,
    title: str,
    resume: Path,
) -> tuple[History, Distillation]:
    """Do as ``fine_tune`` does, and again without the teacher; keep what is better on validation.

    Of equals the one with the teacher is kept. Nothing shorter would do: the gain is a fraction of
    a point, and early epochs say little about the last.
    """
    twin = copy.deepcopy(module)
    alone = dataclasses.replace(lesson, distill=0.0)
    history = fine_tune(module, masks, lesson, data, teacher=teacher, title=title, resume=resume)
    history_alone = fine_tune(
        twin,
        masks,
        alone,
        data,
        teacher=None,
        title=f"{title} without the teacher",
        resume=resume.with_name(f"{resume.name}-alone"),
    )
    found = Distillation(
        with_teacher=evaluate(module, data.contract, data.validation),
        without_teacher=evaluate(twin, data.contract, data.validation),
    )
    say(
        f"With the teacher {found.with_teacher:.2f} % on validation images, without it "
        f"{found.without_teacher:.2f} %; the better one is kept."
    )
    if found.without_teacher > found.with_teacher:
        module.load_state_dict(twin.state_dict())
        history = history_alone
    return history, found
