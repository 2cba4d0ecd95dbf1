"""From scores to what stays: percentile thresholds and widths the hardware likes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from exporter.pruning.group import Group

Scope = Literal["global", "layer"]


def survivors(
    scores: Mapping[str, Tensor],
    removed: Mapping[str, int],
    share: float,
    scope: Scope,
    *,
    comparable: bool = False,
) -> dict[str, int]:
    """Return how many entries of each layer lie above the threshold.

    Args:
        scores: per layer, the scores of the entries that are still there.
        removed: per layer, how many entries earlier rounds have removed.
        share: share of all entries, removed ones included, that shall be gone afterwards.
        scope: one threshold over all layers, or one each. Across layers a score counts as its share
            of the layer's total, so a layer of many channels, where each matters less, gives more.
        comparable: the scores are on one scale over all layers as they are; none is divided.
    """
    if scope == "layer":
        return {
            name: values.numel() - _to_remove(values.numel(), removed[name], share)
            for name, values in scores.items()
        }
    pool = torch.cat(
        [
            values.flatten() / (1 if comparable else values.sum().clamp(min=1e-30))
            for values in scores.values()
        ]
    )
    owner = torch.cat(
        [torch.full((values.numel(),), place) for place, values in enumerate(scores.values())]
    )
    # Ranks instead of a comparison with the percentile's value: equal scores, as fresh or dead
    # filters have, would otherwise all fall together.
    lowest = torch.sort(pool, stable=True).indices[
        : _to_remove(len(pool), sum(removed.values()), share)
    ]
    losses = torch.bincount(owner[lowest], minlength=len(scores)).tolist()
    return {
        name: values.numel() - lost
        for (name, values), lost in zip(scores.items(), losses, strict=True)
    }


def _to_remove(remaining: int, already: int, share: float) -> int:
    wanted = share * (remaining + already) - already
    return min(remaining, max(0, int(wanted + 0.5)))


def rounded_width(count: int, width: int, multiple: int) -> int:
    """Return ``count`` rounded to the nearest multiple, at least one multiple, at most ``width``.

    A layer narrower than one multiple stays as it is. Where ``width`` itself is no multiple, it is
    still a legal answer: removing nothing is never worse than removing a little.
    """
    if width <= multiple:
        return width
    nearest = max(multiple, (count + multiple // 2) // multiple * multiple)
    return nearest if nearest <= width else width


def width_multiple(group: Group, channel_multiple: int) -> int:
    """Return what the width of ``group`` is rounded to, so that its layers' outputs suit a target.

    Where layers lose several outputs per channel of the group, fewer channels will do.
    """
    return channel_multiple // math.gcd(channel_multiple, group.step)


def strongest(scores: Tensor, count: int) -> tuple[int, ...]:
    """Return the indices of the ``count`` largest scores, in ascending order of index."""
    order = torch.sort(scores, descending=True, stable=True).indices
    return tuple(sorted(order[:count].tolist()))
