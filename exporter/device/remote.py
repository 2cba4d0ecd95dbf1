"""Runs on the device: takes a packed bundle from stdin, runs it, answers, leaves nothing behind.

Sent as text over ssh, so it needs nothing there but Python's own modules. Stdin brings a line of
JSON (``size``, ``marker``, ``temp``, ``arguments`` of run.py) and ``size`` bytes of a zip file, and
then stays open: its end means that the other side is gone. The answer is one line on stdout, the
marker and JSON: ``exit_code``, ``answer`` and ``said`` of run.py, or ``fault``.

All files lie in one temporary folder, which goes when the program ends: by itself, by a signal, or
because stdin ended.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from typing import Any

OLDEST_PYTHON = (3, 9)


def main() -> None:
    """Answer the request on stdin."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    header = json.loads(sys.stdin.buffer.readline())
    archive = sys.stdin.buffer.read(header["size"])
    if len(archive) == header["size"]:
        sys.stdout.write(header["marker"] + json.dumps(answer(header, archive)) + "\n")


def answer(header: dict[str, Any], archive: bytes) -> dict[str, Any]:
    """Return what the bundle's runner says, or why it could not be asked."""
    if sys.version_info < OLDEST_PYTHON:
        found, wanted = (".".join(map(str, v)) for v in (sys.version_info[:3], OLDEST_PYTHON))
        return {"fault": "its Python is " + found + ", but " + wanted + " or newer is needed"}
    folder = None
    try:
        folder = tempfile.mkdtemp(prefix="exporter-check-", dir=header["temp"])
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            file.extractall(folder)
        return run(folder, header["arguments"])
    except OSError as error:
        place = error.filename or header["temp"] or tempfile.gettempdir()
        return {"fault": "cannot write " + str(place) + ": " + str(error.strerror), "writing": True}
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def run(folder: str, arguments: list[str]) -> dict[str, Any]:
    """Run the bundle's runner until it ends or stdin does."""
    command = [sys.executable, "run.py", "--json", *arguments]
    with subprocess.Popen(
        command,
        cwd=folder + "/bundle",
        # onnxruntime leaves a file `.ses` among the temporary ones (1.32).
        env={**os.environ, "TMPDIR": folder},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        threading.Thread(target=stop_at_end, args=(child,), daemon=True).start()
        try:
            printed, said = child.communicate()
        finally:
            child.kill()
    return {
        "exit_code": child.returncode,
        "answer": printed.decode(errors="replace"),
        "said": said.decode(errors="replace"),
    }


def stop_at_end(child: subprocess.Popen[bytes]) -> None:
    """Stop the runner once nobody waits for it any more."""
    while os.read(0, 1):
        pass
    child.kill()


if __name__ == "__main__":
    main()
