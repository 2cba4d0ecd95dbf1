"""Programs of the system that setting up calls."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import Signals

from exporter.errors import EmulationError


def run_tool(
    command: Sequence[str],
    *,
    doing: str,
    remedy: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program to its end.

    Raises:
        EmulationError: it is missing or fails. The message tells what it was needed for, what it
            said, and the remedy.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            cwd=folder,
            env=environment,
            check=False,
        )
    except FileNotFoundError:
        raise EmulationError(f"{doing} needs {command[0]}, which is not here. {remedy}") from None
    if done.returncode:
        raise EmulationError(
            f"{doing} failed: {complaint(done.stderr or done.stdout, done.returncode)}. {remedy}"
        )


def complaint(text: str, code: int) -> str:
    """Return the line in which a program says what went wrong, without its full stop.

    Of several errors the first one is the cause. QEMU's warnings about features that it does not
    translate are no errors.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and "warning: " not in line]
    errors = [line for line in lines if line.startswith(("E: ", "ERROR: "))]
    ended = f"exit code {code}" if code >= 0 else f"{Signals(-code).name} ended it"
    (said,) = errors[:1] or lines[-1:] or [ended]
    return said.removeprefix("E: ").removeprefix("ERROR: ").rstrip(".")
