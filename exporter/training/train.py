"""The stage that makes the dense network."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch

from exporter.artifacts import RESUME
from exporter.checkpoint import Checkpoint, save_checkpoint
from exporter.config import TrainConfig
from exporter.data.splits import Splits
from exporter.models.choose import choose_model, usual_learning_rate
from exporter.models.family import FitsData, ModelRef, build_model
from exporter.models.foreign import short_name
from exporter.progress import say
from exporter.training.augmentation import Augmentation, normalise
from exporter.training.loop import History, Lesson, fit
from exporter.training.preprocessing import Preprocessing

VERSION = 3

STEM_IMAGES = 5000
IMAGES_TO_SEE = 600_000
FEWEST_EPOCHS, MOST_EPOCHS = 12, 24
LABEL_SMOOTHING = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """The dense network and how it came to be."""

    checkpoint: Checkpoint
    lesson: Lesson
    """The recipe with every default resolved; fine-tuning starts from it."""
    history: History = field(compare=False)
    """Without epochs where the weights were brought along."""
    preprocessing: Preprocessing | None = None
    """What was tried where the weights were brought along."""

    @property
    def epochs(self) -> int:
        """Epochs it was trained for, or would have been."""
        return len(self.history.epochs) or self.lesson.epochs

    @property
    def validation_top1(self) -> float:
        """Top-1 on validation images, in percent."""
        if self.preprocessing is not None:
            return self.preprocessing.validation_top1
        return self.history.epochs[-1].validation_top1


def train(out: Path, config: TrainConfig, data: Splits, model: ModelRef | None = None) -> Trained:
    """Train a network on ``data.train``.

    Args:
        out: folder for the weights.
        config: how it learns.
        data: the images; their contract says how pixels are normalised.
        model: the network; without it, the one that ``config`` names.

    Raises:
        ConfigError, ModelError: the network doesn't exist or doesn't fit the images.
    """
    model = model or choose_model(config, data.contract)
    module = fresh_network(model, data, config.seed)
    lesson = lesson_of(
        config,
        data,
        learning_rate=usual_learning_rate(model, module),
        label_smoothing=LABEL_SMOOTHING,
    )
    history = fit(
        module,
        lesson,
        data.contract,
        data.train,
        data.validation,
        title=f"Training {short_name(model.name)}",
        resume=out / RESUME,
    )
    say(f"Dense network: {history.epochs[-1].validation_top1:.2f} % on validation images.")
    return Trained(
        checkpoint=save_checkpoint(out, module, model, data.contract, kept={}),
        lesson=lesson,
        history=history,
    )


def lesson_of(
    config: TrainConfig, data: Splits, *, learning_rate: float, label_smoothing: float
) -> Lesson:
    """Return the recipe of ``config``, with these two numbers where it leaves them open."""
    return Lesson(
        epochs=config.epochs or default_epochs(data.train.count),
        minutes=config.minutes,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate or learning_rate,
        label_smoothing=(
            label_smoothing if config.label_smoothing is None else config.label_smoothing
        ),
        augmentation=Augmentation(
            flip=data.mirror_safe if config.flip is None else config.flip,
            translate=config.translate,
            cutout=config.cutout,
        ),
        seed=config.seed,
    )


def fresh_network(model: ModelRef, data: Splits, seed: int) -> torch.nn.Module:
    """Return the network with its seeded initial weights and its stem fitted to the images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build_model(model, data.contract)
    if isinstance(module, FitsData):
        images, _ = data.train.arrays()
        sample = torch.from_numpy(images[:STEM_IMAGES].copy())
        module.fit_stem(normalise(sample, data.contract))
    return module


def default_epochs(images: int) -> int:
    """Return the passes that see about 600,000 images, at least 12 and at most 24."""
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(IMAGES_TO_SEE / images)))
