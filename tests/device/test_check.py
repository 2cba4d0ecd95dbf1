"""The check on a device: over a real sshd where there is one, and over a stand-in for ssh."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from exporter.artifacts import sha256_of
from exporter.cli import app
from exporter.device.answer import read_answer
from exporter.device.ssh import Host, run_python
from exporter.errors import DeviceError
from exporter.packing.pack import pack
from tests.device.servers import Server
from tests.tiny_bundle import CLASSES

ROOT = Path(__file__).parents[2]
SECONDS = 60
# Throws away the options, runs the command here.
STAND_IN = """#!/bin/sh
while [ "$1" != "--" ]; do shift; done
shift 2
exec /bin/sh -c "$*"
"""


def check(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def on(server: Server, *arguments: object, python: str = sys.executable) -> Result:
    return check("--host", "device", "--ssh-config", server.config, "--python", python, *arguments)


def said(result: Result) -> str:
    """Return the one line of a refusal."""
    assert result.exit_code == 2, (result.stdout, result.stderr, result.exception)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def change(bundle: Path, name: str, content: bytes) -> None:
    """Change a file of a bundle, and its manifest."""
    (bundle / name).write_bytes(content)
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["files"][name] = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program in ssh's place; return the folder for temporary files."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(STAND_IN)
    (tmp_path / "bin" / "ssh").chmod(0o755)
    (tmp_path / "temp").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temp"))
    return tmp_path / "temp"


def test_the_answer_comes_back_and_nothing_stays(
    shipped: Path, tmp_path: Path, stand_in: Path
) -> None:
    out = tmp_path / "device.json"
    result = check(shipped, "--host", "x", "--python", sys.executable, "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document == json.loads(out.read_bytes())
    assert document["passed"] is True
    assert document["golden"]["agree"] == 32
    assert document["model_sha256"] == sha256_of(shipped / "model.onnx")
    assert document["latency"]["median_ms"] > 0
    assert document["latency"]["threads"] == 1
    assert list(stand_in.iterdir()) == []


def test_over_a_real_server(shipped: Path, tmp_path: Path, server: Server) -> None:
    server.allow('echo "Welcome to a talkative shell"; eval "$SSH_ORIGINAL_COMMAND"')
    data = tmp_path / "data"
    random = np.random.default_rng(0)
    for name in CLASSES[:2]:
        (data / name).mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(0, 256, (12, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(data / name / f"{number}.jpg")
    archive = pack(shipped, tmp_path / "bundle.zip").path
    out = tmp_path / "device.json"
    result = on(server, archive, "--data", data, "--threads", 1, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "32 of 32" in result.stdout
    answer = read_answer(out)
    assert answer.accuracy is not None
    assert answer.accuracy.total == 6
    assert answer.latency is not None


def test_a_device_that_gives_other_answers_is_exit_code_1(
    copy: Path, tmp_path: Path, stand_in: Path
) -> None:
    with np.load(copy / "golden.npz") as arrays:
        images, logits = arrays["images"], arrays["logits"]
    np.savez(tmp_path / "other.npz", images=images, logits=logits[::-1])
    change(copy, "golden.npz", (tmp_path / "other.npz").read_bytes())
    out = tmp_path / "device.json"
    result = check(copy, "--host", "x", "--python", sys.executable, "--out", out)
    assert result.exit_code == 1, result.stderr
    assert "FAILED: Golden outputs differ" in " ".join(result.stdout.split())
    assert read_answer(out).passed is False


def test_a_damaged_bundle_is_not_sent(copy: Path, stand_in: Path) -> None:
    (copy / "labels.txt").unlink()
    assert said(check(copy, "--host", "x")).endswith("labels.txt is missing.")


def test_images_that_cannot_be_used_are_not_sent(
    shipped: Path, tmp_path: Path, stand_in: Path
) -> None:
    (tmp_path / "data" / "cow").mkdir(parents=True)
    line = said(check(shipped, "--host", "x", "--data", tmp_path / "data"))
    assert "the model does not know this class, but ant, bee, cat, dog" in line
    (tmp_path / "data" / "cow").rmdir()
    line = said(check(shipped, "--host", "x", "--data", tmp_path / "data"))
    assert "holds no images" in line


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "", "a b", "--"])
def test_a_host_is_never_taken_for_an_option(shipped: Path, host: str) -> None:
    assert "is no host; say user@device" in said(check(shipped, f"--host={host}"))


SAYINGS = {
    "@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@\nHost key verification failed.": (
        "pi@box has another key than the known one; if that is right: ssh-keygen -R box"
    ),
    "Host key verification failed.": "is not a known host; connect once by hand: ssh pi@box",
    "ssh: Could not resolve hostname box: Name or service not known": "cannot be found",
    "pi@box: Permission denied (publickey,password).": "ssh-copy-id pi@box",
    "ssh: connect to host box port 22: Connection refused": "has no ssh server on that port",
    "ssh: connect to host box port 22: Connection timed out": "does not answer; is it on?",
    "Connection to box closed by remote host.": "The connection to pi@box was lost: Connection",
    "": "The connection to pi@box was lost: exit code 255",
}


@pytest.mark.parametrize("saying", SAYINGS)
def test_what_ssh_says_becomes_advice(
    shipped: Path, tmp_path: Path, stand_in: Path, saying: str
) -> None:
    (tmp_path / "saying").write_text(saying)
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text(f"#!/bin/sh\ncat '{tmp_path / 'saying'}' >&2\nexit 255\n")
    assert SAYINGS[saying] in said(check(shipped, "--host", "pi@box"))


def test_without_ssh_it_says_so(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "ssh cannot be run" in said(check(shipped, "--host", "pi@box"))


def test_an_unknown_and_a_changed_host_are_told_apart(shipped: Path, server: Server) -> None:
    server.know("")
    assert "device is not a known host" in said(on(server, shipped))
    server.know(" ".join((server.folder / "stranger.pub").read_text().split()[:2]))
    assert "device has another key than the known one" in said(on(server, shipped))


def test_a_refused_key(shipped: Path, server: Server) -> None:
    (server.folder / "authorized_keys").write_bytes((server.folder / "stranger.pub").read_bytes())
    assert "device accepts none of your keys" in said(on(server, shipped))


def test_a_closed_port(shipped: Path, server: Server) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"ssh://127.0.0.1:{probe.getsockname()[1]}"
        line = said(check(shipped, "--host", host))
    assert "has no ssh server on that port" in line


def test_no_python(shipped: Path, server: Server) -> None:
    line = said(on(server, shipped, python="python-not-there"))
    assert "device has no python-not-there" in line
    assert "--python" in line


def test_no_onnxruntime(shipped: Path, tmp_path: Path, server: Server) -> None:
    command = [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "empty")]
    subprocess.run(command, check=True)
    line = said(on(server, shipped, python=str(tmp_path / "empty" / "bin" / "python")))
    assert "device: run.py: No module named 'numpy'" in line
    assert "pip install numpy onnxruntime" in line


def test_no_space(shipped: Path, server: Server) -> None:
    server.allow('ulimit -f 1; exec sh -c "$SSH_ORIGINAL_COMMAND"')
    line = said(on(server, shipped))
    assert f"device: cannot write {server.temp}" in line
    assert "Free some space there, or choose a folder with --temp" in line


def test_a_folder_that_is_not_there(shipped: Path, server: Server) -> None:
    line = said(on(server, shipped, "--temp", "/no/such/folder"))
    assert "cannot write /no/such/folder" in line
    assert "No such file or directory" in line


def test_a_lost_connection(shipped: Path, server: Server) -> None:
    server.allow("kill -9 $PPID; sleep 60")
    assert "The connection to device was lost" in said(on(server, shipped))


def test_a_runner_that_is_killed_there(copy: Path, server: Server) -> None:
    change(copy, "run.py", b"import os\nos.kill(os.getpid(), 9)\n")
    line = said(on(server, copy))
    assert "run.py was stopped by signal 9; is there enough memory?" in line


def test_an_interrupt_ends_it_over_there_too(copy: Path, tmp_path: Path, server: Server) -> None:
    started = tmp_path / "started"
    code = f"open({str(started)!r}, 'w').write(str(os.getpid()))"
    change(copy, "run.py", f"import os, time\n{code}\ntime.sleep(600)\n".encode())
    command = [sys.executable, "-m", "exporter", "check", str(copy), "--host", "device"]
    command += ["--ssh-config", str(server.config), "--python", sys.executable]
    end = time.monotonic() + SECONDS
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what it runs in the background deaf to this signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        while not (started.exists() and started.read_text()) and time.monotonic() < end:
            time.sleep(0.05)
        assert len(list(server.temp.iterdir())) == 1
        process.send_signal(signal.SIGINT)
        try:
            _, words = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == 130
    assert words.splitlines()[-1].startswith("stopped")
    runner = int(started.read_text())
    while (list(server.temp.iterdir()) or alive(runner)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(runner)
    assert list(server.temp.iterdir()) == []


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_request_that_is_cut_leaves_nothing(tmp_path: Path) -> None:
    program = ROOT / "exporter" / "device" / "remote.py"
    header = {"size": 100, "marker": "m", "temp": str(tmp_path), "arguments": []}
    done = subprocess.run(
        [sys.executable, str(program)],
        input=json.dumps(header).encode() + b"\n" + b"PK",
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert list(tmp_path.iterdir()) == []


def test_what_a_program_prints_comes_back(stand_in: Path) -> None:
    program = "import sys\nprint(sys.stdin.readline().upper(), end='')"
    host = Host(name="x", python=sys.executable)
    assert run_python(host, program, b"hello\n") == b"HELLO\n"
    with pytest.raises(DeviceError, match="exit code 1 on x: ZeroDivisionError"):
        run_python(host, "1 / 0", b"")


def test_python_3_9_can_read_what_is_sent() -> None:
    import ast

    ast.parse((ROOT / "exporter/device/remote.py").read_text(), feature_version=(3, 9))
    assert shutil.which("sh")
