"""Do weights that were brought along expect the pixels that were stated?

A wrong normalisation is no error anywhere: the network runs and is wrong more often. So the usual
ones are tried on validation images, and one that fits clearly better is named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from exporter.contract import InputContract
from exporter.data.splits import Split
from exporter.normalization import NORMALIZATIONS, Normalization, normalized_by
from exporter.progress import track
from exporter.training.augmentation import normalise

IMAGES = 500
"""At most so many validation images are tried: enough to see a mismatch, bounded in time."""
BATCH = 100
CLEARLY_BETTER = 2.0
"""Another normalisation is named where it gets so many points more right, and more than so many
standard deviations: on few images, any difference can be chance."""
KNOWS_SOMETHING = 0.2
"""Weights that are not even this share of the way from guessing to knowing have another problem."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """How well weights do on validation images under the usual normalisations."""

    validation_top1: float
    """Percent of all validation images, under the stated one."""
    stated: str
    """Name of the normalisation that was stated."""
    images: int
    """How many validation images the others were compared on."""
    top1: Mapping[str, float]
    """Percent of these images, by name; the stated one among them."""


def try_normalizations(
    module: nn.Module,
    stated: Normalization,
    contract: InputContract,
    validation: Split,
    validation_top1: float,
) -> Preprocessing:
    """Return how ``module`` does under ``stated`` and under every row of the table."""
    images, labels = validation.arrays()
    rows = np.unique(np.linspace(0, len(labels) - 1, IMAGES).round().astype(int))
    pixels, truth = torch.from_numpy(images[rows]), torch.from_numpy(labels[rows])
    tried = {stated.name: stated} | NORMALIZATIONS
    top1 = {}
    with track("Trying normalisations", total=len(tried) * len(rows)) as advance:
        for name, how in tried.items():
            top1[name] = _top1(module, normalized_by(contract, how), pixels, truth)
            advance(len(rows), f"{name} {top1[name]:.1f} %")
    return Preprocessing(
        validation_top1=validation_top1, stated=stated.name, images=len(rows), top1=top1
    )


def mismatch(seen: Preprocessing, classes: tuple[str, ...]) -> str:
    """Return a warning where another normalisation fits better, or none fits; else ""."""
    stated = seen.top1[seen.stated]
    best = max(seen.top1, key=seen.top1.__getitem__)
    gain = seen.top1[best] - stated
    spread = math.sqrt(sum(_variance(seen.top1[name], seen.images) for name in (best, seen.stated)))
    if gain >= CLEARLY_BETTER and gain > CLEARLY_BETTER * spread:
        return (
            f"WARNING: on {seen.images} validation images the weights get {stated:.1f} % right "
            f"with the normalisation as stated ({seen.stated}), but {seen.top1[best]:.1f} % with "
            f"{best}, {gain:.1f} points more. They were probably trained with "
            f"--normalization {best}."
        )
    guessing = 100 / len(classes)
    if stated < guessing + KNOWS_SOMETHING * (100 - guessing):
        listed = ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")
        return (
            f"WARNING: the weights get {stated:.1f} % of {seen.images} validation images right, "
            f"where guessing gives {guessing:.1f} %, and no usual normalisation does clearly "
            f"better. Do they know these classes in this order: {listed}?"
        )
    return ""


def _variance(percent: float, images: int) -> float:
    return percent * (100 - percent) / images


@torch.no_grad()
def _top1(module: nn.Module, contract: InputContract, pixels: Tensor, labels: Tensor) -> float:
    device = next(module.parameters()).device
    correct = 0
    for batch, truth in zip(pixels.split(BATCH), labels.split(BATCH), strict=True):
        predicted = module(normalise(batch.to(device), contract)).argmax(1).cpu()
        correct += int((predicted == truth).sum())
    return 100.0 * correct / len(labels)
