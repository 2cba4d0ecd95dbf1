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
from exporter.errors import ConfigError
from exporter.models import find_model
from exporter.models.family import FitsData, ModelRef, build_model, reference
from exporter.progress import say
from exporter.training.augmentation import Augmentation, normalise
from exporter.training.loop import History, Lesson, fit

VERSION = 1

STEM_IMAGES = 5000
IMAGES_TO_SEE = 600_000
FEWEST_EPOCHS, MOST_EPOCHS = 12, 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """The dense network and how it came to be."""

    checkpoint: Checkpoint
    lesson: Lesson = field(compare=False)
    """The recipe with every default resolved; fine-tuning starts from it."""
    history: History = field(compare=False)


def train(out: Path, config: TrainConfig, data: Splits) -> Trained:
    """Train the network that ``config`` names on ``data.train``.

    Raises:
        ConfigError, ModelError: the network doesn't exist or doesn't fit the images.
    """
    family = find_model(config.model)
    model = reference(family, parse_widths(config.widths), data.contract)
    lesson = Lesson(
        epochs=config.epochs or default_epochs(data.train.count),
        minutes=config.minutes,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate or family.learning_rate,
        label_smoothing=config.label_smoothing,
        augmentation=Augmentation(
            flip=data.mirror_safe if config.flip is None else config.flip,
            translate=config.translate,
            cutout=config.cutout,
        ),
        seed=config.seed,
    )
    module = fresh_network(model, data, config.seed)
    history = fit(
        module,
        lesson,
        data.contract,
        data.train,
        data.validation,
        title=f"Training {config.model}",
        resume=out / RESUME,
    )
    say(f"Dense network: {history.epochs[-1].validation_top1:.2f} % on validation images.")
    return Trained(
        checkpoint=save_checkpoint(out, module, model, data.contract, kept={}),
        lesson=lesson,
        history=history,
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


def parse_widths(text: str) -> tuple[int, ...]:
    """Return the widths in ``"32,128,128"``; empty text means the model's own."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ConfigError(
            f"--widths takes whole numbers separated by commas, not {text!r}."
        ) from None
