"""How much of a channel arrives at those who read it: activations over the calibration images."""

from __future__ import annotations

from torch import Tensor

from exporter.pruning.criteria.criterion import Criterion
from exporter.pruning.views import Channels, Weights


def wanda_channels(seen: Channels) -> Tensor:
    """Sum of outgoing |w|, times the norm of the activation: the article's product form.

    Wanda's |W| * ||X|| (Sun et al. 2023, arXiv 2306.11695) summed over the weights that read the
    channel. A layer scaled up with its consumer scaled down leaves the score as it was.
    """
    return seen.outgoing.abs().sum(1) * seen.activation_norm


def wanda_weights(seen: Weights) -> Tensor:
    """|w| times the norm of its input (Sun et al. 2023, arXiv 2306.11695)."""
    return seen.weight.abs() * seen.activation_norm


def weight_activation_channels(seen: Channels) -> Tensor:
    """Outgoing |w| plus alpha times mean |a|: the article's sum.

    Both terms are divided by their mean over the layer; without that alpha would depend on units.
    The parts are fan-out weight (He et al., ICASSP 2014) and mean activation (Molchanov et al.,
    ICLR 2017, arXiv 1611.06440).
    """
    outgoing = seen.outgoing.abs().sum(1)
    return _over_mean(outgoing) + seen.alpha * _over_mean(seen.activation_mean)


def weight_activation_weights(seen: Weights) -> Tensor:
    """|w| plus alpha times the mean |a| of its input, both divided by their mean."""
    return _over_mean(seen.weight.abs()) + seen.alpha * _over_mean(seen.activation_mean)


def activation_channels(seen: Channels) -> Tensor:
    """Mean |a| (Molchanov et al., ICLR 2017, arXiv 1611.06440)."""
    return seen.activation_mean


def apoz_channels(seen: Channels) -> Tensor:
    """1 minus the average percentage of zeros (Hu et al. 2016, arXiv 1607.03250).

    The paper removes channels that are mostly zero, so the share that is not is the score. Zeros
    are counted where the channel is read: behind the activation and the pooling.
    """
    return seen.activation_active


def _over_mean(values: Tensor) -> Tensor:
    mean = values.mean()
    return values / mean if mean > 0 else values


CRITERIA = (
    Criterion(
        name="wanda",
        summary="|w| times the activation's norm; the article's product of weights and activations",
        source="arXiv 2306.11695",
        channels=wanda_channels,
        weights=wanda_weights,
        needs="activations",
    ),
    Criterion(
        name="weight-activation",
        summary="|w| plus alpha times mean |a|; the article's balanced sum",
        source="the article; arXiv 1611.06440",
        channels=weight_activation_channels,
        weights=weight_activation_weights,
        needs="activations",
    ),
    Criterion(
        name="activation",
        summary="mean |a|",
        source="arXiv 1611.06440",
        channels=activation_channels,
        weights=None,
        needs="activations",
    ),
    Criterion(
        name="apoz",
        summary="share of activations that are not zero",
        source="arXiv 1607.03250",
        channels=apoz_channels,
        weights=None,
        needs="activations",
    ),
)
