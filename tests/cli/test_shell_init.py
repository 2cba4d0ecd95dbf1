"""`shell-init` in real shells: our lines reach us, all others do what they did without it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exporter.cli import app
from exporter.cli.shell_functions import shell_function

COMMANDS = ("build", "train", "inspect", "targets")
NEEDED = {
    shell: pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed")
    for shell in ("bash", "zsh", "fish")
}

OURS = [
    ("export build --target cpu-int8", ["build", "--target", "cpu-int8"]),
    ("export build --help", ["build", "--help"]),
    ("export train -h", ["train", "-h"]),
    ("export inspect model.onnx", ["inspect", "model.onnx"]),
    ("export inspect ./model", ["inspect", "./model"]),
    ("export build --out 'a  b' --quiet", ["build", "--out", "a  b", "--quiet"]),
    ("true && export targets --json", ["targets", "--json"]),
]
PREPARE = "x='a  b *'; arr=(1 2); w=keep; build=7"
NOT_OURS = [
    'export A=1; show "$A"',
    'export A="x  y"; show "$A"',
    "export A='$x'; show \"$A\"",
    'export "A=x  y"; show "$A"',
    'export A=$x; show "$A"',
    'export A="$x" B=2 C=$x; show "$A" "$B" "$C"',
    'export A=$(echo one); show "$A"',
    'export A="$(echo "one  two")"; show "$A"',
    'export A=; show "$A"',
    'export A=--target; show "$A"',
    'export PATH="/opt/x:$PATH"; show "${PATH%%:*}"',
    'export w; sh -c \'echo "$w"\' >>"$OUT"',
    'export build; sh -c \'echo "$build"\' >>"$OUT"',
    'export build w; sh -c \'echo "$build $w"\' >>"$OUT"',
    'export build=8; sh -c \'echo "$build"\' >>"$OUT"',
    'export build A=5; sh -c \'echo "$build $A"\' >>"$OUT"',
    'export arr; show "${arr[*]}"',
    'f() { local q=5; export q; sh -c \'echo "in $q"\' >>"$OUT"; }; f; show "out $q"',
    'f() { export g=6; }; f; sh -c \'echo "$g"\' >>"$OUT"',
    'export A=1; export -p | grep -E "(^| )A=" >>"$OUT"',
    'export A=$UNSET; show "<$A>"; export UNSET; show "<$UNSET>"',
    'export A=http://a/b?c=d; show "$A"',
    'export A=*.txt; show "$A"',
]
SPLIT_BY_ZSH = [  # only an assignment to zsh's reserved word, so only where it is left alone
    'export A=$(echo "one  two"); show "$A"',
    'export A=~/x:~/y; show "$A"',
    'export A=(1 2 3); show "${A[*]}"',
]
ONLY_BASH = [
    *SPLIT_BY_ZSH,
    'export A=1; export -n A; sh -c \'echo "<$A>"\' >>"$OUT"',
    'f() { echo f; }; export -f f; bash -c f >>"$OUT"',
    'export A=1; export A+=2; show "$A"',
    'n=V; export $n=$x; show "$V"',
    "export 1a=3 2>/dev/null; show $?",  # fatal in a zsh script
    "export foo.bar 2>/dev/null; show $?",
]
SHOW = 'show() { printf \'%s\\n\' "$@" >>"$OUT"; }'


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A stand-in for the interpreter; notes what it was called with."""
    path = tmp_path / "my python"
    path.write_text('#!/bin/sh\nshift 3\nprintf "ours:%s\\n" "$@" >>"$OUT"\nexit 3\n')
    path.chmod(0o755)
    return str(path)


def run_script(shell: str, script: str, folder: Path) -> str:
    """Run lines as a script; return what they wrote to $OUT."""
    out = folder / "out"
    out.write_text("")
    flags = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    path = folder / "script"
    path.write_text(script)
    subprocess.run(
        [shell, *flags, str(path)],
        env={**os.environ, "OUT": str(out)},
        cwd=folder,
        timeout=60,
        check=False,
        capture_output=True,
    )
    return out.read_text()


def type_lines(shell: str, lines: Sequence[str], folder: Path) -> str:
    """Type lines at the prompt of an interactive shell; return what they wrote to $OUT."""
    out = folder / "out"
    out.write_text("")
    flags = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        environment = {**os.environ, "OUT": str(out), "TERM": "xterm", "HOME": str(folder)}
        os.execvpe(shell, [shell, *flags, "-i"], environment)
    os.write(terminal, "".join(f"{line}\n" for line in (*lines, "exit 0")).encode())
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                if not os.read(terminal, 65536):
                    break
            except OSError:  # how Linux says that the other side has gone
                break
    os.close(terminal)
    os.waitpid(pid, 0)
    return out.read_text()


def called(words: Sequence[str]) -> str:
    return "".join(f"ours:{word}\n" for word in words)


@pytest.mark.parametrize(("line", "words"), OURS)
@pytest.mark.parametrize("shell", [pytest.param(shell, marks=NEEDED[shell]) for shell in NEEDED])
def test_our_lines_reach_the_program(
    shell: str, line: str, words: list[str], program: str, tmp_path: Path
) -> None:
    script = shell_function(shell, program, COMMANDS)
    assert run_script(shell, f"{script}\n{line}\n", tmp_path) == called(words)


@pytest.mark.parametrize("shell", [pytest.param(shell, marks=NEEDED[shell]) for shell in NEEDED])
def test_the_exit_code_is_the_programs(shell: str, program: str, tmp_path: Path) -> None:
    script = shell_function(shell, program, COMMANDS)
    status = "$status" if shell == "fish" else "$?"
    line = f'export build --x; echo {status} >>"$OUT"'
    assert run_script(shell, f"{script}\n{line}\n", tmp_path) == called(["build", "--x"]) + "3\n"


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        pytest.param(shell, line, marks=NEEDED[shell])
        for shell, lines in (("bash", [*NOT_OURS, *ONLY_BASH]), ("zsh", NOT_OURS))
        for line in lines
    ],
)
def test_every_other_line_does_what_it_did(
    shell: str, line: str, program: str, tmp_path: Path
) -> None:
    (tmp_path / "one.txt").touch()
    lines = f"{SHOW}\n{PREPARE}\n{line}\n"
    plain = run_script(shell, lines, tmp_path)
    assert plain
    assert run_script(shell, shell_function(shell, program, COMMANDS) + lines, tmp_path) == plain


@pytest.mark.parametrize("shell", [pytest.param(s, marks=NEEDED[s]) for s in ("bash", "zsh")])
def test_all_of_it_at_a_prompt(shell: str, program: str, tmp_path: Path) -> None:
    (tmp_path / "one.txt").touch()
    init = tmp_path / "init"
    init.write_text(shell_function(shell, program, COMMANDS))
    lines = [SHOW, PREPARE, *NOT_OURS, *SPLIT_BY_ZSH]
    plain = type_lines(shell, lines, tmp_path)
    mixed = [". ./init"]
    for position, line in enumerate(lines):
        mixed += [OURS[position % len(OURS)][0], line]
    changed = type_lines(shell, mixed, tmp_path).splitlines()
    theirs = [line for line in changed if not line.startswith("ours:")]
    ours = [line for line in changed if line.startswith("ours:")]
    assert len(plain.splitlines()) > len(NOT_OURS)
    assert theirs == plain.splitlines()
    expected = [called(OURS[position % len(OURS)][1]) for position in range(len(lines))]
    assert ours == "".join(expected).splitlines()


@NEEDED["fish"]
@pytest.mark.parametrize(
    "line",
    [
        "export A=1; sh -c 'echo \"$A\"' >>$OUT",
        'export A="x  y"; sh -c \'echo "$A"\' >>$OUT',
        "export A=--target; sh -c 'echo \"$A\"' >>$OUT",
        "set w keep; export w; sh -c 'echo \"$w\"' >>$OUT",
        "set -g build 7; export build; sh -c 'echo \"$build\"' >>$OUT",
        "set -g build 7; export build A=5; sh -c 'echo \"$build $A\"' >>$OUT",
        "export A=1; export | grep -E '^A ' >>$OUT",
        "export PATH=/opt/x:$PATH; echo $PATH[1] >>$OUT",
        "export A=(echo one two); sh -c 'echo \"$A\"' >>$OUT",
    ],
)
def test_fish_keeps_its_own_export(line: str, program: str, tmp_path: Path) -> None:
    plain = run_script("fish", line, tmp_path)
    assert plain
    init = shell_function("fish", program, COMMANDS)
    assert run_script("fish", f"{init}\n{init}\n{line}", tmp_path) == plain


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_command_prints_the_function_for_this_interpreter(shell: str) -> None:
    result = CliRunner().invoke(app, ["shell-init", shell])
    names = tuple(info.name for info in app.registered_commands if info.name)
    assert result.exit_code == 0
    assert result.stdout == shell_function(shell, sys.executable, names)
    assert {"build", "train", "shell-init"} <= set(names)


@NEEDED["bash"]
def test_a_typed_line_runs_the_real_program(tmp_path: Path) -> None:
    init = CliRunner().invoke(app, ["shell-init", "bash"]).stdout
    root = Path(__file__).parents[2]
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{init}\nexport build --no-such-option"],
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "No such option" in done.stderr


def test_an_unknown_shell_is_refused() -> None:
    assert CliRunner().invoke(app, ["shell-init", "tcsh"]).exit_code == 2
