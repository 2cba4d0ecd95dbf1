"""Progress for a person: bars on a terminal, a line now and then in a log, nothing with --quiet.

All of it goes to stderr; stdout belongs to the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from exporter.progress import Advance, Display, Silent

SECONDS_BETWEEN_LINES = 5.0
WORTH_A_LINE = 1.0
"""Seconds; a task that took less leaves no line behind."""


@contextmanager
def display_for(stream: TextIO, quiet: bool) -> Iterator[Display]:
    """Yield the display that suits ``stream``; a terminal is restored at the end."""
    if quiet:
        yield Silent()
    elif stream.isatty():
        with bars(Console(file=stream)) as progress:
            yield Bars(progress)
    else:
        yield Lines(stream)


def bars(console: Console) -> Progress:
    """Return the live area with one bar per running task; it vanishes when they are done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TaskProgressColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
        transient=True,
        refresh_per_second=4,  # drawing takes CPU time from what is being measured
        redirect_stdout=False,  # what libraries print there is already sent to stderr
    )


class Bars:
    """A bar with the time left for each running task, and a line for each that is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextmanager
    def task(self, description: str, total: float) -> Iterator[Advance]:
        progress = self._progress
        task = progress.add_task(escape(description), total=total, note="")
        start = time.monotonic()

        def advance(amount: float, note: str) -> None:
            if note:
                progress.update(task, advance=amount, note=escape(note))
            else:
                progress.update(task, advance=amount)

        try:
            yield advance
        except BaseException:
            progress.remove_task(task)
            raise
        note = next(entry.fields["note"] for entry in progress.tasks if entry.id == task)
        progress.remove_task(task)
        if (seconds := time.monotonic() - start) >= WORTH_A_LINE:
            progress.print(
                f"{escape(description)}: {duration(seconds)}  [dim]{note}", highlight=False
            )

    def message(self, text: str) -> None:
        self._progress.print(text, markup=False, highlight=False)


class Lines:
    """Plain lines, for a log file or a pipe."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._due = clock() + SECONDS_BETWEEN_LINES

    @contextmanager
    def task(self, description: str, total: float) -> Iterator[Advance]:
        start = self._clock()
        done = head_start = 0.0
        first: float | None = None
        latest = ""

        def advance(amount: float, note: str) -> None:
            nonlocal done, head_start, first, latest
            now = self._clock()
            done += amount
            latest = note or latest
            if first is None:  # a resumed task begins with what was done before: no work of today
                first, head_start = now, done
            if now < self._due or now - start < WORTH_A_LINE:
                return
            self._due = now + SECONDS_BETWEEN_LINES
            left = ""
            if done > head_start and total > done:
                rate = (now - first) / (done - head_start)
                left = f", about {duration((total - done) * rate)} left"
            share = min(done / total, 1.0) if total > 0 else 1.0
            self.message(f"{description}: {share:.0%} in {duration(now - start)}{left}  {latest}")

        yield advance
        if (seconds := self._clock() - start) >= WORTH_A_LINE:
            self.message(f"{description}: done in {duration(seconds)}  {latest}")

    def message(self, text: str) -> None:
        print(text.rstrip(), file=self._stream, flush=True)


def duration(seconds: float) -> str:
    """Return ``0:07``, ``12:34`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
