"""Progress in a log and on a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from exporter.cli.display import Bars, Lines, bars, display_for, duration
from exporter.progress import Silent


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_every_few_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock).task("Training", total=100) as advance:
        for step in range(100):
            clock.now += 0.2
            advance(1, f"loss {step}" if step % 2 else "")
    lines = stream.getvalue().splitlines()
    assert lines == [
        "Training: 25% in 0:05, about 0:15 left  loss 23",
        "Training: 50% in 0:10, about 0:10 left  loss 49",
        "Training: 75% in 0:15, about 0:05 left  loss 73",
        "Training: 100% in 0:20  loss 99",
        "Training: done in 0:20  loss 99",
    ]


def test_the_time_left_counts_only_the_work_of_this_run() -> None:
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock).task("Training", total=100) as advance:
        advance(80, "")  # done before, and resumed
        clock.now += 10
        advance(10, "")
    assert stream.getvalue().splitlines()[0] == "Training: 90% in 0:10, about 0:10 left"


def test_several_tasks_share_the_pace() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    with lines.task("Outer", total=10) as outer, lines.task("Inner", total=10) as inner:
        for _ in range(10):
            clock.now += 1
            inner(1, "")
            outer(1, "")
    shown = [line.split(":")[0] for line in stream.getvalue().splitlines()]
    assert shown == ["Inner", "Inner", "Inner", "Outer"]


def test_short_work_leaves_no_line() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    clock.now += 60
    with lines.task("Predicting", total=2) as advance:
        advance(1, "")
        clock.now += 0.9
    assert stream.getvalue() == ""


def test_nothing_to_do_is_no_error() -> None:
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock).task("Predicting", total=0) as advance:
        clock.now += 7
        advance(0, "")
    assert stream.getvalue().startswith("Predicting: 100% in 0:07")


def test_a_terminal_gets_a_bar_with_the_time_left() -> None:
    stream = Terminal()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    with bars(console) as progress:
        display = Bars(progress)
        display.message("[bold]as it is[/bold]")
        with display.task("Training [1]", total=4) as advance:
            advance(1, "loss 0.5")
            advance(1, "")
            progress.refresh()
            line = stream.getvalue().splitlines()[-1]
            with display.task("Predicting", total=2):
                progress.refresh()
                both = stream.getvalue()
        assert progress.tasks == []
    assert "[bold]as it is[/bold]" in stream.getvalue()
    assert re.search(r"Training \[1\] .* 50% .*-:--:--|0:00:0\d", line)
    assert "loss 0.5" in line
    assert "Predicting" in both


def test_an_error_inside_a_task_passes_through() -> None:
    console = Console(file=Terminal(), force_terminal=True)
    with bars(console) as progress:
        with pytest.raises(ZeroDivisionError), Bars(progress).task("Training", total=1):
            raise ZeroDivisionError
        assert progress.tasks == []


def test_the_display_suits_the_stream() -> None:
    with display_for(io.StringIO(), quiet=False) as display:
        assert isinstance(display, Lines)
    with display_for(Terminal(), quiet=False) as display:
        assert isinstance(display, Bars)
    stream = Terminal()
    with display_for(stream, quiet=True) as display:
        assert isinstance(display, Silent)
        display.message("nobody reads this")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
