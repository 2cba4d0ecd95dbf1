"""One measurement at a time on a machine, whoever asks."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.progress import say


@contextmanager
def turn() -> Iterator[None]:
    """Wait until no other process of this user measures times here, and keep others waiting.

    The lock is a file in the system's temporary folder, and dies with the process that holds it.
    """
    path = Path(tempfile.gettempdir()) / f"edge-exporter-timing-{os.getuid()}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Waiting until another process has measured its times …")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
