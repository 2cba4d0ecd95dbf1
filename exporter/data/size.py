"""The size of an image, as text and as numbers."""

from __future__ import annotations

import re
from typing import NamedTuple

from exporter.errors import ConfigError

SMALLEST_SIDE = 4
LARGEST_SIDE = 1024


class Size(NamedTuple):
    """Pixels, height first."""

    height: int
    width: int

    def __str__(self) -> str:
        """Return the form that ``parse_size`` reads."""
        return f"{self.height}x{self.width}"

    @property
    def usable(self) -> bool:
        """Whether a network can be expected to take images of this size."""
        return min(self) >= SMALLEST_SIDE and max(self) <= LARGEST_SIDE


def parse_size(text: str) -> Size | None:
    """Return the size that ``HEIGHTxWIDTH`` states, or None for an empty text.

    Raises:
        ConfigError: the text is not of that form, or a side is outside the limits.
    """
    if not text:
        return None
    match = re.fullmatch(r"([0-9]{1,6})[xX]([0-9]{1,6})", text.strip())
    if match is None:
        raise ConfigError(f"--size is {text!r}, but must be HEIGHTxWIDTH in pixels, such as 64x64.")
    size = Size(int(match[1]), int(match[2]))
    if not size.usable:
        raise ConfigError(
            f"--size is {size}, but each side must lie between {SMALLEST_SIDE} and {LARGEST_SIDE}."
        )
    return size
