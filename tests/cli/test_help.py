"""The help: complete, with every default, and without loading what it doesn't need."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from exporter import __version__
from exporter.cli import app
from exporter.config import BuildConfig
from exporter.option import Option, options_of

ROOT = Path(__file__).parents[2]
NAMES = [info.name for info in app.registered_commands if info.name]
HEAVY = {
    "torch", "torchvision", "onnxruntime", "onnx", "numpy", "sklearn", "scipy", "PIL",
    "calibration", "torch_pruning", "matplotlib",
}  # fmt: skip


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture(scope="module")
def shown_help() -> str:
    """What `build --help` shows, without frames and line breaks."""
    return " ".join(run("-m", "exporter", "build", "--help").stdout.replace("│", " ").split())


def declared_options() -> dict[str, tuple[Option, object]]:
    """Every option that a config declares, by the name of its field."""
    kinds = typing.get_type_hints(BuildConfig)
    configs: list[Any] = [BuildConfig, *filter(dataclasses.is_dataclass, kinds.values())]
    return {
        entry.name: (options_of(config)[entry.name], entry.default)
        for config in configs
        for entry in dataclasses.fields(config)
        if entry.name in options_of(config)
    }


def test_no_command_loads_a_heavy_library_for_its_help() -> None:
    code = f"""
import json, sys
from typer.testing import CliRunner
from exporter.cli import app
codes = [CliRunner().invoke(app, [name, "--help"]).exit_code for name in {NAMES}]
print(json.dumps([codes, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""
    codes, loaded = json.loads(run("-c", code).stdout)
    assert codes == [0] * len(NAMES)
    assert "typer" in loaded
    assert HEAVY.isdisjoint(loaded)


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["--version"]])
def test_the_program_itself_loads_no_heavy_library(arguments: list[str]) -> None:
    done = run("-X", "importtime", "-m", "exporter", *arguments)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.split("\n")}
    assert "exporter" in loaded
    assert HEAVY.isdisjoint(loaded)


def test_every_option_of_every_command_has_a_help_text() -> None:
    group: Any = typer.main.get_command(app)
    for name in NAMES:
        command = group.commands[name]
        assert command.help
        for parameter in command.params:
            assert getattr(parameter, "help", ""), f"{name} {parameter.name}"


def test_build_offers_every_option_with_default_and_unit() -> None:
    group: Any = typer.main.get_command(app)
    offered = {parameter.name: parameter for parameter in group.commands["build"].params}
    declared = declared_options()
    assert len(declared) > 35
    assert set(declared) <= set(offered)
    for name, (option, default) in declared.items():
        text = offered[name].help.replace("\\", "")
        assert option.help in text
        assert f"[default: {option.default_text or ''}" in text
        if not option.default_text and not isinstance(default, bool):
            assert f"[default: {default}" in text
        if option.unit not in ("", "folder"):
            assert re.search(rf"\[default: [^]]*{option.unit}\]", text)


@pytest.mark.parametrize(
    "piece",
    [
        "against the dense float model. [default: 1.0 percentage points]",
        "--resize <stretch|crop> ",
        "--download --no-download <bool> Fetch the dataset",
        "if it is not there (cifar10). [default: off]",
        "Mirror training images left to right. [default: on, except for digits, which",
        "--out FOLDER Folder that receives the bundle. [default: dist]",
        "[default: edge-exporter in $XDG_CACHE_HOME or in ~/.cache] [env var: EXPORTER_CACHE]",
    ],
)
def test_the_help_as_it_is_shown(piece: str, shown_help: str) -> None:
    assert piece in shown_help


def test_options_come_with_the_commands_that_use_them() -> None:
    group: Any = typer.main.get_command(app)
    options = {name: {p.name for p in group.commands[name].params} for name in NAMES}
    assert {"epochs", "data", "recipe", "cache", "out"} <= options["train"]
    assert "prune" not in options["train"]
    assert {"checkpoint", "criterion", "target"} <= options["prune"]
    assert "recipe" not in options["convert"]
    assert {"dense", "int8", "small", "max_drop", "data"} <= options["verify"]
    assert all("json" in options[name] for name in NAMES if name != "shell-init")


def test_version_and_no_arguments() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"{__version__}\n"
    assert CliRunner().invoke(app, []).exit_code == 2
