"""Batched augmentation: one gather per batch instead of one Python call per image.

Images stay ``uint8 [N, H, W, 3]`` until the last moment; shift and mirror are index arithmetic, and
pixels outside the image are those of its mirrored border.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from exporter.contract import InputContract


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """What may happen to a training image."""

    flip: bool
    translate: int
    """Largest shift in pixels, in both directions."""
    cutout: int
    """Side in pixels of a square set to the zero point; 0 for none."""


def augment(
    images: Tensor,
    picked: Tensor,
    how: Augmentation,
    zero_point: int,
    generator: torch.Generator,
    mirrored: Tensor,
) -> Tensor:
    """Return the augmented images ``uint8 [B, H, W, 3]`` at the indices ``picked [B]``.

    Where ``how.flip`` is set, those with a true entry in ``mirrored`` (``bool [N]``, one per image
    of the dataset) are mirrored left to right.
    """
    count, (_, height, width, _) = len(picked), images.shape
    rows = _shifted(height, how.translate, count, generator)
    columns = _shifted(width, how.translate, count, generator)
    if how.flip:
        columns = torch.where(mirrored[picked, None], columns.flip(1), columns)
    device = images.device
    picked = picked.to(device)[:, None, None]
    batch = images[picked, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
    if how.cutout:
        inside = (
            _window(height, how.cutout, count, generator)[:, :, None]
            & _window(width, how.cutout, count, generator)[:, None, :]
        )
        batch[inside.to(device)] = zero_point
    return batch


def mirrored_in(epoch: int, count: int, seed: int) -> Tensor:
    """Return ``bool [count]``: which images are mirrored in ``epoch``.

    Half of them, by lot; from epoch to epoch every image alternates, so that any two epochs in a
    row show both of its sides (Jordan 2024, arXiv 2404.00498).
    """
    first = torch.rand(count, generator=torch.Generator().manual_seed(seed)) < 0.5
    return first ^ bool(epoch % 2)


def _shifted(length: int, reach: int, count: int, generator: torch.Generator) -> Tensor:
    """Source indices ``[count, length]`` of a random shift, reflected at the borders."""
    reach = min(reach, length - 1)
    shift = torch.randint(-reach, reach + 1, (count, 1), generator=generator)
    index = (torch.arange(length) + shift).abs()
    return torch.where(index < length, index, 2 * (length - 1) - index)


def _window(length: int, side: int, count: int, generator: torch.Generator) -> Tensor:
    """Booleans ``[count, length]`` that are true in a random run of ``side``, cut at the border."""
    centre = torch.randint(0, length, (count, 1), generator=generator)
    offset = torch.arange(length) - centre + side // 2
    return (offset >= 0) & (offset < side)


def normalise(images: Tensor, contract: InputContract) -> Tensor:
    """Return ``float32 [N, 3, H, W]`` in channels-last memory from raw ``uint8 [N, H, W, 3]``."""
    pixels = images.permute(0, 3, 1, 2).float()
    if not contract.mean:
        return (pixels - contract.zero_point) * contract.scale
    mean, std = (
        torch.tensor(values, device=pixels.device).view(-1, 1, 1)
        for values in (contract.mean, contract.std)
    )
    return (pixels - mean) / std
