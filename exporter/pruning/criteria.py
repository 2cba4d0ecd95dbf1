"""Importance scores: one small function each, low is pruned first.

A criterion scores whole channels (``Channels`` -> ``[C]``) and single weights (``Weights`` -> the
weight's shape). Where one threshold spans the network, scores are first divided by their layer's
total: what is compared is the share of a layer that a channel carries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from exporter.errors import ConfigError
from exporter.pruning.evidence import Channels, Weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Criterion:
    """A row of the table."""

    name: str
    summary: str
    source: str
    channels: Callable[[Channels], Tensor]
    weights: Callable[[Weights], Tensor]


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
    return _share(outgoing) + seen.alpha * _share(seen.activation_mean)


def weight_activation_weights(seen: Weights) -> Tensor:
    """|w| plus alpha times the mean |a| of its input, both divided by their mean."""
    activation = seen.activation_mean.expand_as(seen.weight)
    return _share(seen.weight.abs()) + seen.alpha * _share(activation)


def gradient_channels(seen: Channels) -> Tensor:
    """Mean |dL/dw| over the incoming weights, as the article's code has it.

    Unlike first-order Taylor scores it lacks the factor w: a large filter at rest in a minimum
    counts as unimportant.
    """
    return seen.gradient.mean(1)


def gradient_weights(seen: Weights) -> Tensor:
    """Mean |dL/dw|, as the article's code has it."""
    return seen.gradient


def _share(values: Tensor) -> Tensor:
    mean = values.mean()
    return values / mean if mean > 0 else values


_CRITERIA = (
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
        name="wanda",
        summary="|w| times the activation's norm; the article's product of weights and activations",
        source="arXiv 2306.11695",
        channels=wanda_channels,
        weights=wanda_weights,
    ),
    Criterion(
        name="weight-activation",
        summary="|w| plus alpha times mean |a|; the article's balanced sum",
        source="the article; arXiv 1611.06440",
        channels=weight_activation_channels,
        weights=weight_activation_weights,
    ),
    Criterion(
        name="gradient",
        summary="mean |dL/dw|; the article's code",
        source="the article",
        channels=gradient_channels,
        weights=gradient_weights,
    ),
)

CRITERIA: dict[str, Criterion] = {criterion.name: criterion for criterion in _CRITERIA}


def find_criterion(name: str) -> Criterion:
    """Return the criterion called ``name``; raises ConfigError that lists the known ones."""
    try:
        return CRITERIA[name]
    except KeyError:
        raise ConfigError(f"Unknown criterion {name!r}. Known: {', '.join(CRITERIA)}.") from None
