"""README says what the code does: commands, options, targets, tables, layout, schema."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from calibration import METHODS
from exporter.artifacts import digest
from exporter.cli.app import app
from exporter.config import BuildConfig
from exporter.pruning.criteria import CRITERIA
from exporter.recipe import read_recipe
from exporter.targets import TARGETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PACKAGES = ("exporter", "calibration", "deploy", "benchmarks")
COMMANDS = {command.name for command in app.registered_commands}


def options() -> set[str]:
    group: Any = typer.main.get_command(app)
    return {
        name
        for command in group.commands.values()
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help"}


def test_every_command_in_readme_exists_and_every_command_is_there() -> None:
    named = set(re.findall(r"(?:exporter|bin/export) ([a-z]+(?:-[a-z]+)?)\b", README))
    assert named - COMMANDS <= {"is"}, named - COMMANDS
    stages = {"train", "prune", "convert", "calibrate", "quantize", "verify", "build"}
    assert stages <= named


def test_every_option_in_readme_exists() -> None:
    # Other programs have options of their own.
    text = re.sub(r"`python [^`]*`|(pip|npm|python|\$ python) [^`\n]*", "", README)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named - options() == set()


def test_the_target_table_is_the_table_of_targets() -> None:
    section = README.split("## Targets")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([^`]+)`", section, flags=re.M) == list(TARGETS)


@pytest.mark.parametrize("name", ["wanda", "weight-activation", "gradient"])
def test_the_articles_criteria_have_the_names_readme_gives(name: str) -> None:
    assert name in CRITERIA
    assert f"`{name}`" in README


def test_the_recipe_in_readme_is_a_recipe(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", README, flags=re.S)
    (tmp_path / "build.toml").write_text(text)
    config = read_recipe(tmp_path / "build.toml")
    assert config.prune.prune == tomllib.loads(text)["prune"]["prune"]
    assert digest(config) != digest(BuildConfig())


def test_the_layout_tree_names_what_is_there() -> None:
    (tree,) = re.findall(r"## Layout\n\n```\n(.*?)```", README, flags=re.S)
    named = set()
    folder = Path()
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        name = line.split()[0]
        if name.endswith("/"):
            folder = Path(name) if indent == 0 else Path(*folder.parts[: indent // 2]) / name
            named.add(folder.as_posix())
        else:
            named.add((Path(*folder.parts[: indent // 2]) / name).as_posix())
    assert [path for path in named if not (ROOT / path).exists()] == []
    folders = {
        path.parent.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert folders <= named
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "exporter").glob("[a-z]*.py")}
    assert modules <= named


def test_the_changelog_names_every_row_of_the_tables() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    missing = [name for name in (*TARGETS, *CRITERIA, *METHODS) if f"`{name}`" not in changelog]
    assert missing == []
