"""What a command answers: one JSON document, the same for a person to read, and an exit code."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

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
        table.add_column(heading(key), no_wrap=key == keys[0], overflow="fold")
    for row in rows:
        table.add_row(*(escape(shown(row[key])) for key in keys))
    return Answer(json=to_json(rows), draw=lambda console: console.print(table))


def details(result: object) -> Answer:
    """Return a dataclass as a JSON object and as one line per field, nested ones indented."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    document = _plain(result)
    for label, text in _lines(document, depth=0):
        table.add_row(escape(label), escape(text))
    return Answer(json=to_json(document), draw=lambda console: console.print(table))


def to_json(document: object) -> str:
    """Return plain data, dataclasses or paths as indented JSON; NaN becomes null."""
    from pydantic_core import to_json

    return to_json(document, indent=2, inf_nan_mode="null").decode()


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
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or "-"
    return str(value)


def _plain(value: object) -> object:
    """Return dataclasses as dictionaries, all the way down."""
    if dataclasses.is_dataclass(value):
        names = [entry.name for entry in dataclasses.fields(value)]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _lines(document: object, depth: int) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in document.items() if isinstance(document, Mapping) else ():
        label = "  " * depth + heading(key)
        if isinstance(value, Mapping) and value:
            lines += [(label, ""), *_lines(value, depth + 1)]
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            lines.append((label, f"{len(value)} entries; see --json"))
        else:
            lines.append((label, shown(value)))
    return lines
