"""Command-line options made from the declarations in ``exporter.config``."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Annotated, Any

import typer

from exporter.config import BuildConfig
from exporter.option import Option

PANELS = {
    "data": "Data",
    "train": "Training",
    "prune": "Pruning",
    "intake": "Own ONNX file",
    "calibrate": "Calibration",
    "correct": "Correction",
    "quantize": "Quantization",
    "verify": "Verification",
}
"""Headings of the help text by part of ``BuildConfig``."""


def config_parameters(parts: Sequence[str]) -> list[inspect.Parameter]:
    """Return one Typer parameter per option; each is None where the option isn't given."""
    return [
        inspect.Parameter(
            entry.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                # Optional, since "not given" must be told from a value that equals the default.
                typing.Optional[_typer_kind(kind)],  # noqa: UP045 - built from a value
                _typer_option(entry, kind, PANELS.get(_table(part))),
            ],
        )
        for part in parts
        for entry, kind in _entries(part)
    ]


def tables_from(parts: Sequence[str], given: MutableMapping[str, Any]) -> dict[str, Any]:
    """Move the options of ``parts`` out of ``given``, into the shape of a recipe."""
    tables: dict[str, Any] = {}
    for part in parts:
        values = {entry.name: given.pop(entry.name) for entry, _ in _entries(part)}
        values = {name: value for name, value in values.items() if value not in (None, [])}
        if _table(part) in PANELS:
            tables.setdefault(_table(part), {}).update(values)
        else:
            tables.update(values)
    return tables


def default_text(option: Option, default: object) -> str:
    """Return the default as the help shows it, with its unit."""
    if option.default_text:
        return option.default_text + (f"; unit: {option.unit}" if option.unit else "")
    if isinstance(default, bool):
        return "on" if default else "off"
    return f"{default} {option.unit}".strip() if _is_number(default) else str(default)


def _entries(part: str) -> Iterable[tuple[dataclasses.Field[Any], Any]]:
    """Return the declared fields of a part of ``BuildConfig``, with types.

    A part is a table, one field of a table as ``prune.criterion``, or a field beside the tables.
    """
    kinds = typing.get_type_hints(BuildConfig)
    table, _, name = part.partition(".")
    if table not in PANELS:
        (entry,) = (entry for entry in dataclasses.fields(BuildConfig) if entry.name == part)
        return [(entry, kinds[part])]
    inner = typing.get_type_hints(kinds[table])
    return [
        (entry, inner[entry.name])
        for entry in dataclasses.fields(kinds[table])
        if name in ("", entry.name)
    ]


def _table(part: str) -> str:
    return part.partition(".")[0]


def _typer_option(entry: dataclasses.Field[Any], kind: object, panel: str | None) -> Any:
    option: Option = entry.metadata["option"]
    flag = (option.flag or entry.name).replace("_", "-")
    is_switch = kind is bool or bool in typing.get_args(kind)
    text = f"{option.help}. [default: {default_text(option, entry.default)}]"
    return typer.Option(
        f"--{flag}/--no-{flag}" if is_switch else f"--{flag}",
        help=text.replace("[", "\\["),  # for rich, which would take it for markup
        show_default=False,
        metavar="FOLDER" if option.unit == "folder" else None,
        rich_help_panel=panel,
    )


def _typer_kind(kind: Any) -> Any:
    """Return a type that Typer knows: a list of texts is an option that can be repeated."""
    return list[str] if typing.get_origin(kind) is tuple else kind


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
