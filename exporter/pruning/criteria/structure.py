"""What a channel is within its layer: its scale, its distance from the others, its rank."""

from __future__ import annotations

import torch
from torch import Tensor

from exporter.pruning.criteria.criterion import Criterion
from exporter.pruning.views import Channels


def bn_scale_channels(seen: Channels) -> Tensor:
    """|gamma| of the batch-norm (Liu et al., ICCV 2017, arXiv 1708.06519).

    The mean where a channel passes several. The paper trains with an L1 penalty on gamma.

    Raises:
        ConfigError: no batch-norm follows, or its gamma is fixed.
    """
    return seen.norm_scale.abs().mean(1)


def fpgm_channels(seen: Channels) -> Tensor:
    """Sum of the distances to the layer's other filters (He et al., CVPR 2019, arXiv 1811.00250).

    A filter near the geometric median of all can be replaced by the others. Distances are between
    the weights themselves: torch-pruning 1.6.1 takes them between squared weights.
    """
    return torch.cdist(seen.incoming, seen.incoming).sum(1)


def hrank_channels(seen: Channels) -> Tensor:
    """Average rank of the feature map (Lin et al., CVPR 2020, arXiv 2002.10179)."""
    return seen.map_rank


CRITERIA = (
    Criterion(
        name="bn-scale",
        summary="|gamma| of the batch-norm",
        source="arXiv 1708.06519",
        channels=bn_scale_channels,
        weights=None,
        needs="batch-norms",
        comparable=True,
    ),
    Criterion(
        name="fpgm",
        summary="distance to the layer's other filters",
        source="arXiv 1811.00250",
        channels=fpgm_channels,
        weights=None,
    ),
    Criterion(
        name="hrank",
        summary="average rank of the feature map",
        source="arXiv 2002.10179",
        channels=hrank_channels,
        weights=None,
        needs="feature-maps",
    ),
)
