"""Images as networks read them, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from exporter.contract import InputContract
from exporter.data.splits import Split
from exporter.progress import track
from exporter.training.augmentation import normalise

BATCH = 64


def batches_of(data: Split, contract: InputContract) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalised pixels ``[N, 3, H, W]`` with labels ``[N]``, in the order of ``data``."""
    images, labels = data.arrays()
    for start in range(0, data.count, BATCH):
        stop = start + BATCH
        pixels = normalise(torch.from_numpy(images[start:stop].copy()), contract)
        yield pixels, torch.from_numpy(labels[start:stop])


def batches_to_score(data: Split, contract: InputContract) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what ``batches_of`` does, with a progress line for those who wait.

    A score that looks at no images asks for none, and shows no line.
    """
    with track("Scoring", total=data.count) as advance:
        for pixels, labels in batches_of(data, contract):
            yield pixels, labels
            advance(len(labels), "")
