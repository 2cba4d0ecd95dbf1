"""A page of a folder in headless Chromium, driven from here through a pipe.

The DevTools protocol (https://chromedevtools.github.io/devtools-protocol/) is spoken over two file
descriptors, so neither Node nor a driver program is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300.0
"""The longest that a page may take to answer."""


def find_chromium() -> str | None:
    """Return the program, None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def find_runtime() -> Path | None:
    """Return onnxruntime-web's module as npm puts it into this project; None where it is not."""
    path = ROOT / "node_modules/onnxruntime-web/dist/ort.wasm.min.mjs"
    return path if path.is_file() else None


@dataclass(frozen=True, slots=True)
class Page:
    """An open page."""

    _commands: IO[bytes]
    _answers: IO[bytes]
    _session: str
    _count: list[int] = field(default_factory=lambda: [0])

    def call(self, method: str, **params: object) -> Any:
        """Return the result of one command of the protocol; raises RuntimeError where it fails."""
        return _call(self._commands, self._answers, self._count, method, params, self._session)

    def evaluate(self, script: str) -> Any:
        """Return the value of a JavaScript expression; a promise is waited for."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """Return the value of an expression once it is there; raises TimeoutError if never."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            if (value := self.evaluate(script)) is not None:
                return value
            time.sleep(0.1)
        raise TimeoutError(f"{script} has no value after {SECONDS:g} seconds")

    def choose_file(self, element: str, file: Path) -> None:
        """Choose a file in the input field with this id, as a person would."""
        found = self.call("Runtime.evaluate", expression=f"document.getElementById({element!r})")
        self.call("DOM.setFileInputFiles", files=[str(file)], objectId=found["result"]["objectId"])


@contextmanager
def open_page(chromium: str, address: str) -> Iterator[Page]:
    """Show ``address``; the browser ends with the block."""
    to_browser, from_browser = os.pipe(), os.pipe()
    options = ["--headless", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"]
    if os.getuid() == 0:
        options.append("--no-sandbox")  # Chromium has none for root
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The protocol's descriptors must be 3 and 4 in the browser.
        script = f'exec "$0" "$@" 3<&{to_browser[0]} 4>&{from_browser[1]}'
        browser = subprocess.Popen(
            ["bash", "-c", script, chromium, *options, f"--user-data-dir={profile}"],
            pass_fds=(to_browser[0], from_browser[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(from_browser[1])
        try:
            with (
                os.fdopen(to_browser[1], "wb", buffering=0) as commands,
                os.fdopen(from_browser[0], "rb") as answers,
            ):
                counts = [0]
                target = _call(commands, answers, counts, "Target.createTarget", {"url": address})
                attached = _call(
                    commands, answers, counts, "Target.attachToTarget",
                    {"targetId": target["targetId"], "flatten": True},
                )  # fmt: skip
                yield Page(commands, answers, attached["sessionId"], counts)
        finally:
            browser.kill()
            browser.wait()


def _call(
    commands: IO[bytes],
    answers: IO[bytes],
    counts: list[int],
    method: str,
    params: object,
    session: str = "",
) -> Any:
    counts[0] += 1
    message = {"id": counts[0], "method": method, "params": params}
    if session:
        message["sessionId"] = session
    commands.write(json.dumps(message).encode() + b"\0")
    while True:  # events come in between
        answer = json.loads(_message(answers))
        if answer.get("id") == counts[0]:
            if "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            return answer["result"]


def _message(answers: IO[bytes]) -> bytes:
    letters = bytearray()
    while (letter := answers.read(1)) != b"\0":
        if not letter:
            raise RuntimeError("the browser has ended")
        letters += letter
    return bytes(letters)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve the files of ``folder`` on this machine; yields the address, without a final slash."""

    class Silent(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
