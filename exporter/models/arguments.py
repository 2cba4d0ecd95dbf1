"""`--model-arg NAME=VALUE`: what a factory is called with, as text and as Python values."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from exporter.errors import ConfigError

_TOML = {"true": True, "false": False}


def parse_arguments(texts: Sequence[str]) -> dict[str, object]:
    """Return the keyword arguments that ``texts`` state, in their order.

    A value is a Python or TOML literal (``3``, ``0.5``, ``true``, ``[64, 128]``, ``'text'``); what
    is none is text as it stands.

    Raises:
        ConfigError: a text is not NAME=VALUE, or a name comes twice.
    """
    arguments: dict[str, object] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name.isidentifier():
            raise ConfigError(f"--model-arg is {text!r}, but must be NAME=VALUE.")
        if name in arguments:
            raise ConfigError(f"--model-arg states {name} twice. Give it once.")
        arguments[name] = _value(value)
    return arguments


def _value(text: str) -> object:
    if text in _TOML:
        return _TOML[text]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # all that it raises
        return text
