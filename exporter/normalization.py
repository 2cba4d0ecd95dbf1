"""What a network's pixels looked like in training: ``(pixel * scale - mean) / std`` per channel.

The usual ones have names. Own networks learn on ``own``; weights from elsewhere are worth nothing
under another normalisation than theirs.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from dataclasses import dataclass

from exporter.config import TrainConfig
from exporter.contract import USUAL_SCALE, InputContract
from exporter.errors import ConfigError
from exporter.models.foreign import is_foreign

CHANNELS = 3
PIXEL_MAX = 255
WHOLE = 1e-6
"""A mean this close to a whole byte is one: what is left moves no logit in float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalization:
    """A row of the table; ``mean`` and ``std`` have one number, or one per channel (R, G, B)."""

    name: str
    summary: str
    scale: float = 1 / PIXEL_MAX
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


_NORMALIZATIONS = (
    Normalization(
        name="own", summary="this tool's own, about -2 to 2", scale=1.0, mean=(128.0,), std=(64.0,)
    ),
    Normalization(
        name="imagenet",
        summary="ImageNet's mean and deviation, as torchvision and timm have them",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
    Normalization(
        name="cifar10",
        summary="CIFAR-10's mean and deviation",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    ),
    Normalization(
        name="cifar100",
        summary="CIFAR-100's mean and deviation",
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
    Normalization(name="inception", summary="-1 to 1", mean=(0.5,), std=(0.5,)),
    Normalization(name="none", summary="0 to 1, as ToTensor gives them"),
    Normalization(name="raw", summary="0 to 255", scale=1.0),
)

NORMALIZATIONS: dict[str, Normalization] = {row.name: row for row in _NORMALIZATIONS}

TRAINED_ON_INCEPTION = ("torchvision:googlenet", "torchvision:inception_v3")
"""torchvision turns their pixels from imagenet's form into this one by ``transform_input``, which
is off here: their weights came from TensorFlow."""


def stated_normalization(config: TrainConfig) -> Normalization:
    """Return the normalisation that ``config`` states, else the usual one for such weights.

    Raises:
        ConfigError: a name is unknown, a number is no number, or both a name and numbers are given.
    """
    numbers = {"scale": config.scale, "mean": config.mean, "std": config.std}
    given = {name: _numbers(name, text) for name, text in numbers.items() if text}
    if not given:
        return find_normalization(config.normalization or _usual(config))
    flags = " and ".join(f"--{name}" for name in given)
    if config.normalization:
        raise ConfigError(f"--normalization and {flags} exclude each other. Give one.")
    if len(given.get("scale", (1.0,))) != 1:
        raise ConfigError(f"--scale is {config.scale!r}, but must be one number for all channels.")
    row = Normalization(
        name=flags,
        summary="as stated",
        scale=given.get("scale", (1 / PIXEL_MAX,))[0],
        mean=given.get("mean", (0.0,)),
        std=given.get("std", (1.0,)),
    )
    if row.scale <= 0 or min(row.std) <= 0:
        name = "scale" if row.scale <= 0 else "std"
        raise ConfigError(f"--{name} is {numbers[name]!r}, but must be greater than 0.")
    return row


def find_normalization(name: str) -> Normalization:
    """Return the normalisation called ``name``; raises ConfigError that lists the known ones."""
    try:
        return NORMALIZATIONS[name]
    except KeyError:
        raise ConfigError(
            f"Unknown normalization {name!r}. Known: {', '.join(NORMALIZATIONS)}; "
            "or state it with --mean, --std and --scale."
        ) from None


def normalized_by(contract: InputContract, how: Normalization) -> InputContract:
    """Return ``contract`` for a network that was trained on pixels normalised by ``how``.

    Where all channels share a mean that is a whole byte, the scalar form says it all. Else the zero
    point is the median of the means, the byte from which they are least far away together.
    """
    mean = tuple(value / how.scale for value in _per_channel(how.mean))
    std = tuple(value / how.scale for value in _per_channel(how.std))
    zero_point = min(max(round(statistics.median(mean)), 0), PIXEL_MAX)
    is_scalar = len(set(std)) == 1 and all(abs(value - zero_point) < WHOLE for value in mean)
    return dataclasses.replace(
        contract,
        zero_point=zero_point,
        scale=1 / std[0] if is_scalar else USUAL_SCALE,
        mean=() if is_scalar else mean,
        std=() if is_scalar else std,
    )


def _usual(config: TrainConfig) -> str:
    if not config.weights or not is_foreign(config.model):
        return "own"
    return "inception" if config.model in TRAINED_ON_INCEPTION else "imagenet"


def _per_channel(values: tuple[float, ...]) -> tuple[float, ...]:
    return values * CHANNELS if len(values) == 1 else values


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, CHANNELS) or not all(map(math.isfinite, values)):
        raise ConfigError(
            f"--{name} is {text!r}, but must be one number or {CHANNELS}, separated by commas."
        )
    return values
