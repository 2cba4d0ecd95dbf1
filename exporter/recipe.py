"""The recipe: a whole build as a TOML file of two keys and a table for each part.

    target = "cpu-int8"
    [train]
    model = "resnet8"
    epochs = 20

Keys left out have their defaults. What the command line says wins over the recipe. The resolved
recipe, stored with every result, names all options and makes the same result again.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast

from exporter.config import BuildConfig
from exporter.errors import ConfigError
from exporter.option import check_limits

C = TypeVar("C")

Scalar = str | int | float | bool | list[str]
Tables = Mapping[str, Scalar | Mapping[str, Scalar]]
"""A recipe as plain data: keys of ``BuildConfig``, and for its parts a mapping of theirs."""


def read_recipe(path: Path) -> BuildConfig:
    """Return the build that a recipe asks for, defaults filled in.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or has an unknown key, a value of the
            wrong type, or one out of range.
    """
    try:
        tables = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigError(f"Cannot read the recipe {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, or not TOML; tomllib says where
        raise ConfigError(f"{path} is not a TOML file: {error}.") from error
    try:
        config = with_changes(BuildConfig(), tables)
        check_limits(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return config


def with_changes(config: C, tables: Tables) -> C:
    """Return ``config`` with the values in ``tables``; limits are not checked.

    Raises:
        ConfigError: a key is unknown or a value has the wrong type.
    """
    return _changed(config, tables, where="")


def recipe_tables(config: BuildConfig) -> Tables:
    """Return every option of a build as plain data; options that are unset (None) are left out."""
    return {
        key: {inner: _plain(entry) for inner, entry in value.items() if entry is not None}
        if isinstance(value, dict)
        else value
        for key, value in dataclasses.asdict(config).items()
    }


def recipe_text(config: BuildConfig) -> str:
    """Return the build as TOML that ``read_recipe`` reads back as the same config."""
    lines, tables = [], []
    for key, value in recipe_tables(config).items():
        if isinstance(value, Mapping):
            tables += ["", f"[{key}]", *(f"{name} = {_toml(item)}" for name, item in value.items())]
        else:
            lines.append(f"{key} = {_toml(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def _plain(value: Scalar | tuple[str, ...]) -> Scalar:
    return list(value) if isinstance(value, tuple) else value


def _toml(value: Scalar) -> str:
    # JSON's numbers, booleans, arrays and string escapes are TOML's too, but for one control
    # character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _changed(config: C, table: Mapping[str, object], where: str) -> C:
    kinds = typing.get_type_hints(type(config))
    changes: dict[str, object] = {}
    for key, value in table.items():
        if key not in kinds:
            raise ConfigError(f"Unknown key {key!r}{where}. {_advice(key, where)}")
        current = getattr(config, key)
        if not dataclasses.is_dataclass(current):
            changes[key] = _fitted(value, kinds[key], key + where)
        elif isinstance(value, Mapping):
            changes[key] = _changed(current, value, f" in [{key}]")
        else:
            raise ConfigError(f"{key!r} is the table [{key}], not a value; its keys go below it.")
    return cast(C, dataclasses.replace(cast(Any, config), **changes))


def _fitted(value: object, kind: object, name: str) -> object:
    """Return ``value`` as the type a field is annotated with; raises ConfigError if it is not."""
    choices = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        if value in choices:
            return value
        raise ConfigError(f"{name} is {value!r}, but must be one of: {', '.join(choices)}.")
    if typing.get_origin(kind) is tuple:
        if isinstance(value, list | tuple) and all(type(item) is str for item in value):
            return tuple(value)
        raise ConfigError(f"{name} is {value!r}, but must be a list of texts in quotes.")
    kinds = choices or (kind,)
    if float in kinds and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) in kinds:  # exact: True is an int, but no number of epochs
        return value
    nouns = {str: "text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
    raise ConfigError(f"{name} is {value!r}, but must be {nouns[kinds[0]]}.")


def _advice(key: str, where: str) -> str:
    """Return what was probably meant, from the same table where possible, or what is known."""
    known = [name for name, place in _places() if place == where]
    for places in ([(name, where) for name in known], _places()):
        close = get_close_matches(key.replace("-", "_"), [name for name, _ in places], cutoff=0.75)
        meant = [f"{name!r}{place}" for name, place in places if name in close]
        if meant:
            return f"Did you mean {' or '.join(meant)}?"
    return f"Known: {', '.join(known)}."


def _places() -> list[tuple[str, str]]:
    """Return every key with the table it belongs to, in the order of the recipe."""
    places = []
    for entry in dataclasses.fields(BuildConfig):
        places.append((entry.name, ""))
        if not entry.metadata:
            part = typing.get_type_hints(BuildConfig)[entry.name]
            places += [(field.name, f" in [{entry.name}]") for field in dataclasses.fields(part)]
    return places
