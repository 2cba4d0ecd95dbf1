"""What is asked of a search."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from exporter.errors import ConfigError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)\s*([smh])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What the artifact should be like, and how long it may be looked for."""

    seconds: float
    """No trial starts later than that; the winners are built afterwards."""
    trials: int
    """At most so many; 0 for no limit."""
    max_drop: float
    """Percentage points of validation accuracy against the dense network."""
    max_ms: float
    """Of one image on one thread; 0 for no limit."""
    max_kb: float
    """1000 bytes; 0 for no limit."""
    widths: tuple[str, ...]
    """Widths of the dense networks to choose from; one or none leaves no choice."""
    quick_share: float
    """Share of fine-tuning after which a bad trial stops; 0 for never."""
    seed: int

    def excess(self, *, drop: float, ms: float, kb: float) -> tuple[float, float, float]:
        """Return by how much each limit is passed, relative to it; at most 0 where it is kept."""
        return (
            drop - self.max_drop,
            ms / self.max_ms - 1 if self.max_ms else -1.0,
            kb / self.max_kb - 1 if self.max_kb else -1.0,
        )


def budget_seconds(text: str) -> float:
    """Return the seconds of a time such as 90s, 30m or 1.5h; raises ConfigError for any other."""
    found = _BUDGET.fullmatch(text.strip())
    if found is None or float(found[1]) == 0:
        raise ConfigError(f"--budget is {text!r}, but must be a time such as 90s, 30m or 1.5h.")
    return float(found[1]) * _UNITS[found[2]]


def width_choices(text: str) -> tuple[str, ...]:
    """Return the widths in a text such as ``24,96,96;32,128,128``."""
    return tuple(part.strip() for part in text.split(";") if part.strip())


def read_wish(text: str) -> Wish:
    """Return the wish that a study carries, without a limit of time."""
    limits = json.loads(text)
    return Wish(**{**limits, "widths": tuple(limits["widths"])}, seconds=0.0, trials=0, seed=0)
