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

NO_MEMORY = ("can't allocate memory", "out of memory", "Failed to allocate memory", "bad_alloc")
"""What PyTorch on the CPU, PyTorch on a GPU, ONNX Runtime and C++ say; only Python's own error has
a type to go by."""


@contextmanager
def session(quiet: bool) -> Iterator[None]:
    """Run a command: show its progress, and turn what it raises into a line and an exit code.

    Raises:
        typer.Exit: with code 2 if the request was refused or the memory did not suffice, 130 if it
            was interrupted. Any other exception is a bug and passes through.
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
        if is_refusal(error):
            _tell(f"error: {error}")
        elif lack := lack_of_memory(error):
            _tell(
                f"error: The memory does not suffice: {lack.strip().rstrip('.')}. End other "
                "programs and give the same command, which continues from here, or take a smaller "
                "network, --size or --batch-size."
            )
        else:
            raise
        raise typer.Exit(REFUSED) from None


def is_refusal(error: Exception) -> bool:
    """Return whether the request was wrong, rather than the program."""
    # `calibration` knows nothing of this package's errors, and importing it here would load
    # onnxruntime; where it raised the error, it is loaded.
    calibration = sys.modules.get("calibration")
    return isinstance(error, ExporterError) or (
        calibration is not None and isinstance(error, calibration.CalibrationError)
    )


def lack_of_memory(error: Exception) -> str:
    """Return what says that Python or a library did not get its memory; empty if it is no such."""
    text = str(error)
    if isinstance(error, MemoryError):
        return text or "out of memory"
    return next((text[text.index(words) :] for words in NO_MEMORY if words in text), "")


def _tell(text: str) -> None:
    sys.stderr.write(" ".join(text.splitlines()) + "\n")
