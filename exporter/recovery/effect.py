"""What quantization does to the outputs of a network: how far they move, and which classes flip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """The change of the outputs on the same images."""

    kl: float
    """Mean Kullback-Leibler divergence KL(before || after) of the class probabilities, in nats."""
    logit_error: float
    """Root mean square of the change over that of the logits before."""
    flips: int
    """Images with another predicted class."""


def effect(before: NDArray[np.float32], after: NDArray[np.float32]) -> Effect:
    """Return what changed from one network's ``float [N, classes]`` logits to another's."""
    p, q = _log_probabilities(before), _log_probabilities(after)
    return Effect(
        # Rounding in float64 leaves identical outputs a hair below zero.
        kl=max(0.0, float((np.exp(p) * (p - q)).sum(axis=1).mean())),
        logit_error=logit_error(before, after),
        flips=int((before.argmax(axis=1) != after.argmax(axis=1)).sum()),
    )


def logit_error(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Return the root mean square of the change over that of ``before``; 0 if both are all 0."""
    change = np.square(after.astype(np.float64) - before).mean()
    size = np.square(before.astype(np.float64)).mean()
    if not change:
        return 0.0
    return float(np.sqrt(change / size)) if size else float("inf")


def _log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
