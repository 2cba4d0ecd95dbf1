"""One command on another machine, by the system's ssh.

A single connection carries everything: the program to run, its input, its answer. So there is one
login, no scp or sftp is needed on the other side, and files there belong to a program that notices
when the connection ends. Nothing is ever asked: the host must be known, and it must accept a key.
"""

from __future__ import annotations

import base64
import shlex
import subprocess
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import DeviceError

OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",  # a line that is silent for three of these is lost
    "ServerAliveCountMax=3",
)
SSH_FAILED = 255
NO_PROGRAM = {126, 127, 9009}
"""How shells of Unix and Windows say that a program can't be run."""
PATIENCE = 5.0
"""Seconds that ssh has to end once it is told to."""
FAULTS = (
    (
        "IDENTIFICATION HAS CHANGED",
        "has another key than the known one; if that is right: ssh-keygen -R {name}",
    ),
    ("Host key verification failed", "is not a known host; connect once by hand: ssh {host}"),
    ("Could not resolve hostname", "cannot be found; is the name right?"),
    ("Permission denied", "accepts none of your keys; let it know one: ssh-copy-id {host}"),
    ("Too many authentication failures", "wants one key, not many; name it in ~/.ssh/config"),
    ("Connection refused", "is there, but has no ssh server on that port"),
    ("timed out", "does not answer; is it on?"),
    ("No route to host", "does not answer; is it on?"),
    ("Network is unreachable", "cannot be reached from this network"),
)
"""What ssh says, and what is to be done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """A machine that ssh can reach, and its Python."""

    name: str
    """As ssh takes it: ``user@device``, an alias of its config, or ``ssh://user@device:port``."""
    python: str = "python3"
    config: Path | None = None
    """A file for ``ssh -F``; None for the user's own."""


def run_python(host: Host, program: str, request: bytes) -> bytes:
    """Return what a Python program prints on the host, given ``request`` on its stdin.

    Its stdin stays open until it ends or this process does.

    Raises:
        DeviceError: the host can't be reached, has no such Python, or the connection was lost.
    """
    if host.name.startswith("-") or not host.name or set(host.name) & set(" \t\n"):
        raise DeviceError(f"{host.name!r} is no host; say user@device.")
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                _command(host, program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
            )
        except OSError as error:
            raise DeviceError(f"ssh cannot be run: {error.strerror}. Install it.") from error
        assert process.stdin is not None
        assert process.stdout is not None
        sender = threading.Thread(target=_send, args=(process, request), daemon=True)
        try:
            sender.start()
            printed = process.stdout.read()
            code = process.wait()
        finally:
            _end(process, sender)
        said.seek(0)
        _check(host, code, said.read().decode(errors="replace"))
        return printed


def _command(host: Host, program: str) -> list[str]:
    # Base64 holds nothing that any shell, or Windows' command line, would read in its own way.
    code = base64.b64encode(program.encode()).decode()
    return [
        "ssh",
        "-T",
        *(["-F", str(host.config)] if host.config else []),
        *(part for option in OPTIONS for part in ("-o", option)),
        "--",
        host.name,
        f"{shlex.quote(host.python)} -c \"import base64;exec(base64.b64decode('{code}'))\"",
    ]


def _send(process: subprocess.Popen[bytes], request: bytes) -> None:
    assert process.stdin is not None
    with suppress(OSError, ValueError):  # it has ended, or was ended; its exit code tells why
        process.stdin.write(request)
        process.stdin.flush()


def _end(process: subprocess.Popen[bytes], sender: threading.Thread) -> None:
    """Leave no ssh behind; the program over there notices the end of its stdin."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    sender.join(PATIENCE)
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with suppress(OSError):  # what was not sent is lost
            stream.close()


def _check(host: Host, code: int, said: str) -> None:
    last = said.strip().splitlines()[-1].strip() if said.strip() else f"exit code {code}"
    if code in NO_PROGRAM:
        raise DeviceError(
            f"{host.name} has no {host.python} ({last}). Install Python 3.9 or newer there, or say "
            "where it is with --python."
        )
    if code == SSH_FAILED:
        name = host.name.rpartition("@")[2]
        for words, advice in FAULTS:
            if words in said:
                raise DeviceError(f"{host.name} {advice.format(host=host.name, name=name)}")
        raise DeviceError(f"The connection to {host.name} was lost: {last}")
    if code:
        raise DeviceError(f"Python ended with exit code {code} on {host.name}: {last}")
