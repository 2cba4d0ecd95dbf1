"""What a command answers: one JSON document, the same for a person to read, and an exit code."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, object]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The result of a command."""

    json: str
    """One document."""
    draw: Callable[[Console], None]
    """Shows the same to a person."""
    code: int = 0


def show(answer: Answer, as_json: bool) -> None:
    """Write the answer to stdout."""
    if as_json:
        sys.stdout.write(answer.json.rstrip("\n") + "\n")
    else:
        answer.draw(Console(file=sys.stdout))


def listing(rows: Sequence[Row], hidden: Sequence[str] = ()) -> Answer:
    """Return rows of the same keys as a JSON list, and as a table without the ``hidden`` ones."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    keys = [key for key in rows[0] if key not in hidden]
    for key in keys:
        table.add_column(heading(key), no_wrap=key == keys[0])
    for row in rows:
        table.add_row(*(Text(shown(row[key]), overflow="fold") for key in keys))
    return Answer(json=to_json(rows), draw=lambda console: console.print(table))


def facts(document: Mapping[str, object], code: int = 0) -> Answer:
    """Return flat data as a JSON object and as one line per entry."""
    table = Table.grid(padding=(0, 2))
    for key, value in document.items():
        table.add_row(f"[bold]{heading(key)}", Text(shown(value), overflow="fold"))
    return Answer(json=to_json(document), draw=lambda console: console.print(table), code=code)


def to_json(document: object) -> str:
    """Return plain data, dataclasses or paths as indented JSON; NaN becomes null."""
    import pydantic_core

    return pydantic_core.to_json(document, indent=2, inf_nan_mode="null").decode()


def heading(key: str) -> str:
    """Return a field's name for a person: ``seven_bit_weights`` is "seven bit weights"."""
    return key.replace("_", " ")


def shown(value: object) -> str:
    """Return a plain value for a person."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "-"
    return str(value)
