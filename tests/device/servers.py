"""An ssh server for tests: a real sshd of the current user on loopback."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
PRIVILEGE_SEPARATION = Path("/run/sshd")
SECONDS = 30


@dataclass(frozen=True)
class Server:
    """A running server, and what a client needs to log in."""

    folder: Path
    port: int

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def temp(self) -> Path:
        """Where programs over there put temporary files."""
        return self.folder / "temp"

    def allow(self, command: str = "") -> None:
        """Let the key in, with a command that takes the place of the one that is asked for."""
        forced = 'command="' + command.replace('"', '\\"') + '" ' if command else ""
        key = (self.folder / "key.pub").read_text()
        (self.folder / "authorized_keys").write_text(forced + key)

    def know(self, key: str) -> None:
        """Make this the key by which the client knows the host."""
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}\n" if key else "")

    @property
    def host_key(self) -> str:
        return " ".join((self.folder / "host.pub").read_text().split()[:2])


@contextmanager
def sshd(folder: Path) -> Iterator[Server]:
    """Run a server; skips the test where there is no sshd or it lets nobody in."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("sshd is not installed (apt-get install openssh-server)")
    for name in ("host", "key", "stranger"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        server = Server(folder, probe.getsockname()[1])
    server.temp.mkdir()
    (folder / "sshd_config").write_text(
        f"Port {server.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"SetEnv TMPDIR={server.temp}\n"
    )
    server.config.write_text(
        f"Host *\n  HostName 127.0.0.1\n  Port {server.port}\n  User {getpass.getuser()}\n"
        f"  IdentityFile {folder}/key\n  IdentitiesOnly yes\n  IdentityAgent none\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
    )
    server.allow()
    server.know(server.host_key)
    ours = os.geteuid() == 0 and not PRIVILEGE_SEPARATION.exists()
    if ours:  # a server of root wants this folder, which is made when the system starts
        PRIVILEGE_SEPARATION.mkdir(0o755)
    command = [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        process.wait()
        if ours:
            PRIVILEGE_SEPARATION.rmdir()


def _wait(server: Server, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + SECONDS
    command = ["ssh", "-F", str(server.config), "-o", "BatchMode=yes", "device", "echo", "hello"]
    done = None
    while process.poll() is None and time.monotonic() < end:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.stdout == "hello\n":
            return
        time.sleep(0.2)
    said = (server.folder / "log").read_text() if done is None else done.stderr
    pytest.skip(f"sshd lets nobody in here: {' '.join(said.split())}")
