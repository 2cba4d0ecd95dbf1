"""What the loss says: gradients of the cross-entropy over the calibration images.

``taylor`` and ``fisher`` score a channel by the weights that read it. To remove a channel is to set
these to zero, whatever lies between it and them; zeros in the filter itself would leave a constant
behind a batch-norm.
"""

from __future__ import annotations

from torch import Tensor

from exporter.pruning.criteria.criterion import Criterion
from exporter.pruning.views import Channels, Weights


def gradient_channels(seen: Channels) -> Tensor:
    """Mean |dL/dw| over the incoming weights, as the article's code has it.

    Unlike first-order Taylor scores it lacks the factor w: a large filter at rest in a minimum
    counts as unimportant.
    """
    return seen.gradient.mean(1)


def gradient_weights(seen: Weights) -> Tensor:
    """Mean |dL/dw|, as the article's code has it."""
    return seen.gradient


def taylor_channels(seen: Channels) -> Tensor:
    """Mean over batches of (sum of g * w)^2, the joint first-order form (Molchanov et al. 2019).

    CVPR, arXiv 1906.10771, with the weights that read the channel as the set. The sum of g * w over
    them equals the sum of dL/da * a over the channel as it is read, so this is the paper's best
    variant, the gate behind batch-norm, wherever ReLU and pooling follow (both let a positive
    factor through). Each batch's square is averaged: gradients of both signs must not cancel.
    """
    return seen.removal_square


def taylor_weights(seen: Weights) -> Tensor:
    """Mean over batches of (g * w)^2: the same with a single weight as the set."""
    return seen.weight.square() * seen.gradient_square


def fisher_channels(seen: Channels) -> Tensor:
    """Half the sum of w^2 * E[g^2] over the outgoing weights, g of single images.

    The diagonal of the empirical Fisher information in place of the Hessian of optimal brain damage
    (LeCun et al. 1990; Theis et al. 2018, arXiv 1801.05787). The square of a batch's mean gradient
    would not do: in a minimum it is zero however much the images disagree.
    """
    return (seen.outgoing.square() * seen.outgoing_gradient_square).sum(1) / 2


def fisher_weights(seen: Weights) -> Tensor:
    """w^2 * E[g^2] / 2, g of single images."""
    return seen.weight.square() * seen.gradient_square / 2


CRITERIA = (
    Criterion(
        name="gradient",
        summary="mean |dL/dw|; the article's code",
        source="the article",
        channels=gradient_channels,
        weights=gradient_weights,
        needs="gradients",
    ),
    Criterion(
        name="taylor",
        summary="(sum of w * dL/dw) squared: first-order change of the loss",
        source="arXiv 1906.10771",
        channels=taylor_channels,
        weights=taylor_weights,
        needs="squared-gradients",
        comparable=True,
    ),
    Criterion(
        name="fisher",
        summary="w squared times E[(dL/dw) squared] of single images: second-order change",
        source="arXiv 1801.05787",
        channels=fisher_channels,
        weights=fisher_weights,
        needs="sample-gradients",
        comparable=True,
    ),
)
