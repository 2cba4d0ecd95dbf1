"""Progress of long work, reported without tying the stages to a terminal.

A stage says ``with track("Training", total=steps) as advance: advance(1, "loss 0.3")``. Who listens
is decided once, by the caller: the command line installs a rich display, a library user gets
silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol

Advance = Callable[[float, str], None]
"""``advance(amount, note)``: that much more is done; the note (may be empty) is shown beside it."""


class Display(Protocol):
    """Shows tasks and messages to a person."""

    def task(self, description: str, total: float) -> AbstractContextManager[Advance]:
        """Open a progress line of ``total`` units; closed when the context ends."""
        ...

    def message(self, text: str) -> None:
        """Show one line of text."""
        ...


class Silent:
    """The display of a library user: nothing is shown."""

    def task(self, description: str, total: float) -> AbstractContextManager[Advance]:
        return nullcontext(lambda amount, note: None)

    def message(self, text: str) -> None:
        return None


_display: ContextVar[Display] = ContextVar("display", default=Silent())  # noqa: B039 - stateless


def track(description: str, total: float) -> AbstractContextManager[Advance]:
    """Return a context that reports ``total`` units of work to the current display."""
    return _display.get().task(description, total)


def say(text: str) -> None:
    """Show one line to the person who waits."""
    _display.get().message(text)


@contextmanager
def shown_on(display: Display) -> Iterator[None]:
    """Send the progress of everything inside the context to ``display``."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)
