"""How large the weights are: ``l1``, ``l2`` and ``lamp``. No data is looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from exporter.pruning.criteria.criterion import Criterion
from exporter.pruning.views import Channels, Weights


def l1_channels(seen: Channels) -> Tensor:
    """Sum of |w| over the incoming weights (Li et al., ICLR 2017, arXiv 1608.08710)."""
    return seen.incoming.abs().sum(1)


def l1_weights(seen: Weights) -> Tensor:
    """|w| (Han et al., NeurIPS 2015, arXiv 1506.02626)."""
    return seen.weight.abs()


def l2_channels(seen: Channels) -> Tensor:
    """Euclidean norm of the incoming weights."""
    return seen.incoming.square().sum(1).sqrt()


def l2_weights(seen: Weights) -> Tensor:
    """W squared; ranks single weights as ``l1`` does."""
    return seen.weight.square()


def lamp_channels(seen: Channels) -> Tensor:
    """``lamp`` of the squared norms of the incoming weights."""
    return lamp(seen.incoming.square().sum(1))


def lamp_weights(seen: Weights) -> Tensor:
    """``lamp`` of the squared weights, as the paper has it."""
    return lamp(seen.weight.square())


def lamp(squares: Tensor) -> Tensor:
    """Each square, over the sum of itself and all larger ones (Lee et al., ICLR 2021).

    arXiv 2010.07611. A layer's largest entry scores 1, so one threshold below 1 never empties a
    layer. Among equals the later entry counts as the larger.
    """
    order = torch.sort(squares.flatten(), stable=True).indices
    ascending = squares.flatten()[order]
    at_least = ascending.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(ascending)
    # The sum is 0 only where the square is: a layer of nothing but zeros scores 0.
    scores[order] = ascending / at_least.clamp(min=torch.finfo(squares.dtype).tiny)
    return scores.reshape(squares.shape)


CRITERIA = (
    Criterion(
        name="l1",
        summary="sum of |w|",
        source="arXiv 1608.08710",
        channels=l1_channels,
        weights=l1_weights,
    ),
    Criterion(
        name="l2",
        summary="Euclidean norm of w",
        source="standard",
        channels=l2_channels,
        weights=l2_weights,
    ),
    Criterion(
        name="lamp",
        summary="w squared over the sum of all larger ones in the layer",
        source="arXiv 2010.07611",
        channels=lamp_channels,
        weights=lamp_weights,
        comparable=True,
    ),
)
