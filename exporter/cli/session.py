"""What surrounds every command: progress on stderr, refusals in one line, the exit code."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import typer

from exporter.errors import ExporterError
from exporter.progress import shown_on

FAILED_GATE = 1
REFUSED = 2
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


@contextmanager
def session(quiet: bool) -> Iterator[None]:
    """Run a command: show its progress, and turn what it raises into a line and an exit code.

    Raises:
        typer.Exit: with code 2 if the request was refused, 130 if it was interrupted. Any other
            exception is a bug and passes through.
    """
    from exporter.cli.display import display_for

    if not sys.warnoptions:  # libraries warn their users, the developers, not ours
        warnings.simplefilter("ignore")
    try:
        # Whatever a library prints meanwhile, stdout gets the answer alone.
        with (
            redirect_stdout(sys.stderr),
            display_for(sys.stderr, quiet) as display,
            shown_on(display),
        ):
            yield
    except KeyboardInterrupt:
        _tell("stopped; the same command continues from here")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if not is_refusal(error):
            raise
        _tell(f"error: {error}")
        raise typer.Exit(REFUSED) from None


def is_refusal(error: Exception) -> bool:
    """Return whether the request was wrong, rather than the program."""
    # `calibration` knows nothing of this package's errors, and importing it here would load
    # onnxruntime; where it raised the error, it is loaded.
    calibration = sys.modules.get("calibration")
    return isinstance(error, ExporterError) or (
        calibration is not None and isinstance(error, calibration.CalibrationError)
    )


def _tell(text: str) -> None:
    sys.stderr.write(" ".join(text.splitlines()) + "\n")
