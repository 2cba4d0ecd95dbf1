"""The Dockerfile keeps to what a bundle has; what it runs is run here, without Docker."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import deploy.run
from tests.bare import run_bare

ROOT = Path(deploy.run.__file__).parents[1]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    lines = DOCKERFILE.read_text().splitlines()
    return [
        (name, rest)
        for name, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")
    ]


def argument(name: str) -> str:
    (found,) = [rest for instruction, rest in instructions() if instruction == name]
    return found


def test_the_order_is_one_that_docker_takes() -> None:
    assert [name for name, _ in instructions()] == [
        "FROM", "RUN", "COPY", "WORKDIR", "USER", "HEALTHCHECK", "ENTRYPOINT",
    ]  # fmt: skip


def test_it_installs_the_pinned_runtime_and_nothing_else() -> None:
    pinned = set((ROOT / "constraints.txt").read_text().split())
    installed = [word for word in argument("RUN").split() if "==" in word]
    assert {word.partition("==")[0] for word in installed} == {"numpy", "onnxruntime"}
    assert set(installed) <= pinned


def test_it_runs_as_nobody_special_where_the_bundle_is() -> None:
    assert argument("COPY") == ". /bundle"
    assert argument("WORKDIR") == "/bundle"
    user, group = argument("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0


@pytest.mark.parametrize("instruction", ["HEALTHCHECK", "ENTRYPOINT"])
def test_what_it_runs_passes_on_a_bundle(bare: Path, shipped: Path, instruction: str) -> None:
    (words,) = re.findall(r"\[.*\]", argument(instruction))
    python, program, *arguments = json.loads(words)
    assert (python, program) == ("python", "run.py")
    assert (shipped / program).is_file()
    done = run_bare(bare, shipped, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "golden outputs: 32 of 32 classes agree" in done.stdout
    assert ("latency: " in done.stdout) == (instruction == "ENTRYPOINT")
