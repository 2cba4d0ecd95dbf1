"""Channels and single weights leave a network, and it is checked that nothing else changes.

What goes is masked, the masks are folded into the weights, and masked channels are removed
physically. Masked, folded and shrunk network must give the same logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from exporter.errors import GraphError
from exporter.outputs import largest_difference
from exporter.pruning.group import Group
from exporter.pruning.masks import fold, mask_channels, mask_weights
from exporter.pruning.shrink import shrink_groups

TOLERANCE = 1e-4
"""Largest accepted difference of logits, relative to the largest logit: float32 sums in another
order. Folding alone must be exact."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Differences of logits on the probe, relative to the largest logit."""

    folded_error: float
    """Between the masked and the folded network."""
    shrunk_error: float
    """Between the folded and the shrunk network."""


def remove_channels(
    module: nn.Module,
    groups: tuple[Group, ...],
    kept: Mapping[str, tuple[int, ...]],
    probe: Tensor,
) -> Agreement:
    """Remove all channels outside ``kept`` from ``module``; raises GraphError if it changes.

    Args:
        module: changed in place.
        groups: its channels.
        kept: by group, the channels that stay.
        probe: normalised images on which the networks are compared.
    """
    return _checked(
        module,
        probe,
        mask=lambda: mask_channels(module, groups, kept),
        shrink=lambda: shrink_groups(module, groups, kept),
    )


def remove_weights(module: nn.Module, masks: Mapping[str, Tensor], probe: Tensor) -> Agreement:
    """Set single weights to zero where the mask of their layer is; the network keeps its shape."""
    return _checked(module, probe, mask=lambda: mask_weights(module, masks), shrink=lambda: None)


@torch.no_grad()
def _checked(
    module: nn.Module, probe: Tensor, *, mask: Callable[[], None], shrink: Callable[[], None]
) -> Agreement:
    module.eval()
    mask()
    masked = module(probe)
    fold(module)
    folded = module(probe)
    shrink()
    small = module(probe)
    folded_error = largest_difference(folded, masked)
    shrunk_error = largest_difference(small, folded)
    if folded_error > 0 or not shrunk_error <= TOLERANCE:
        raise GraphError(
            f"The pruned network differs from the masked one: by {folded_error:.1e} after folding "
            f"(limit 0) and {shrunk_error:.1e} after shrinking (limit {TOLERANCE:.0e}). "
            "Use --unit weights for this network."
        )
    return Agreement(folded_error=folded_error, shrunk_error=shrunk_error)
