"""Which pixels a network takes: what the user states, and what its first operators add to it."""

from __future__ import annotations

import numpy as np

from exporter.config import PIXELS, TrainConfig
from exporter.intake.first_operators import FirstOperators
from exporter.normalization import NORMALIZATIONS, Normalization, stated_normalization

USUAL = "imagenet"
FROM_BYTES = 2.0
"""What begins by dividing by this much or more takes bytes, 0 to 255, else numbers from 0 to 1: the
usual deviations are 58 or 127 of the former, and 0.2 to 1 of the latter."""


def stated_pixels(config: TrainConfig) -> Normalization | None:
    """Return the normalisation that the user states, None where nothing is stated.

    Raises:
        ConfigError: it is unknown or contradicts itself.
    """
    given = any(getattr(config, name) for name in PIXELS)
    return stated_normalization(config) if given else None


def usual_pixels(first: FirstOperators, *, takes_bytes: bool) -> Normalization:
    """Return what a network most likely takes, judged by what it begins with.

    Args:
        first: its first operators.
        takes_bytes: whether its input is of a type for whole numbers.
    """
    if takes_bytes:
        return NORMALIZATIONS["raw"]
    if (first.gain == 1).all() and (first.offset == 0).all():
        return NORMALIZATIONS[USUAL]
    divisor = float(np.median(1 / first.gain))
    return NORMALIZATIONS["raw" if divisor >= FROM_BYTES else "none"]


def with_first_operators(
    stated: Normalization, first: FirstOperators, channel_order: str
) -> Normalization:
    """Return the normalisation of both together: what stands behind the first operators.

    ``gain * (pixel * scale - mean) / std + offset = (pixel - m) / s`` with
    ``s = std / (gain * scale)`` and ``m = mean / scale - s * offset``.

    Args:
        stated: of the pixels that the file takes, for red, green and blue.
        first: per channel in the file's own order.
        channel_order: rgb or bgr.
    """
    step = -1 if channel_order == "bgr" else 1
    gain, offset = first.gain[::step], first.offset[::step]
    std = np.array(stated.std) / (gain * stated.scale)
    mean = np.array(stated.mean) / stated.scale - std * offset
    return Normalization(
        name=stated.name,
        summary=stated.summary,
        scale=1.0,
        mean=tuple(map(float, np.broadcast_to(mean, std.shape))),
        std=tuple(map(float, std)),
    )


def is_raw(how: Normalization) -> bool:
    """Return whether pixels stay the bytes that they are."""
    return how.scale == 1 and set(how.mean) == {0.0} and set(how.std) == {1.0}
