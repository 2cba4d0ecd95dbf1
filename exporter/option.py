"""How a field of a config is declared, presented and limited."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from exporter.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """How one field is presented and limited."""

    help: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    flag: str = ""
    """The command line's name where it is not the field's own."""
    default_text: str = ""
    """What stands for the default where the value alone would not explain it."""


@runtime_checkable
class HasRules(Protocol):
    """A config whose fields must go together, beyond the limits of each."""

    def check_rules(self) -> None:
        """Raise ConfigError where they don't."""
        ...


def option(default: T, help: str, **details: Any) -> T:
    """Declare a config field: a dataclass field whose metadata is an ``Option``."""
    return field(default=default, metadata={"option": Option(help=help, **details)})


def options_of(config_type: type) -> Mapping[str, Option]:
    """Return the declared options of a config dataclass by field name."""
    return {
        entry.name: entry.metadata["option"]
        for entry in dataclasses.fields(config_type)
        if "option" in entry.metadata
    }


def check_limits(config: object) -> None:
    """Raise ConfigError if ``config`` has a number outside its limits or breaks its own rules.

    Configs nested in it are checked, too.
    """
    for entry in dataclasses.fields(cast(Any, config)):
        value = getattr(config, entry.name)
        if dataclasses.is_dataclass(value):
            check_limits(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            limits: Option = entry.metadata["option"]
            if not limits.low <= value <= limits.high:
                raise ConfigError(
                    f"{flag_of(limits.flag or entry.name)} is {value}, but must lie between "
                    f"{limits.low:g} and {limits.high:g}."
                )
    if isinstance(config, HasRules):
        config.check_rules()


def flag_of(name: str) -> str:
    """Return the command line's form of a field's name."""
    return "--" + name.replace("_", "-")
