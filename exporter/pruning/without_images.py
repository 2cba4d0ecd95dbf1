"""Pruning of any network by its weights alone, for those who train it themselves.

What ``exporter build`` does needs labelled images of one class each. A detector or a segmentation
network has none, but its channels hang together in the same way.
"""

from __future__ import annotations

from torch import nn

from exporter.contract import InputContract
from exporter.errors import ConfigError
from exporter.pruning.allocation import Allocation
from exporter.pruning.checked_removal import remove_channels
from exporter.pruning.criteria import find_criterion
from exporter.pruning.groups import find_groups
from exporter.pruning.proof import random_pixels
from exporter.pruning.scores import score_channels
from exporter.pruning.threshold import strongest, width_multiple

BY_WEIGHTS = ("weights", "batch-norms")


def prune_without_images(
    module: nn.Module,
    contract: InputContract,
    share: float,
    *,
    criterion: str = "l2",
    channel_multiple: int = 16,
) -> dict[str, tuple[int, ...]]:
    """Remove ``share`` of the channels of every layer that can lose some; fine-tune afterwards.

    Args:
        module: pruned in place, and left in eval mode. It may return tensors in any nesting of
            dictionaries and lists.
        contract: the pixels it takes; the classes don't matter.
        share: 0 to 0.99.
        criterion: one that looks at weights or batch-norms alone.
        channel_multiple: kept widths are rounded to multiples of this, where they are that wide.

    Returns:
        By group, the channels that stayed.

    Raises:
        ConfigError: the criterion is unknown, looks at images, or is not made for this network.
        GraphError: the network would compute something else afterwards than with masked channels.
    """
    if not 0 <= share <= 0.99:
        raise ConfigError(f"A share of {share:g} cannot be removed, only 0 to 0.99.")
    formula = find_criterion(criterion, "channels")
    if formula.needs not in BY_WEIGHTS:
        raise ConfigError(
            f"The criterion {criterion} looks at images. Without any, take l1, l2, lamp, fpgm, "
            "bn-scale or random."
        )
    groups = find_groups(module, contract)
    scores = score_channels(formula, module, groups, ())
    widths = Allocation(
        scores=scores,
        removed=dict.fromkeys(scores, 0),
        scope="layer",
        comparable=formula.comparable,
        multiples={group.name: width_multiple(group, channel_multiple) for group in groups},
        curves={},
    ).widths(share)
    kept = {name: strongest(scores[name], width) for name, width in widths.items()}
    remove_channels(module, groups, kept, random_pixels(contract))
    return kept
