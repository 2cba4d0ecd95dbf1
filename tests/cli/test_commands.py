"""Commands from the outside: what is on stdout, what is on stderr, and the exit code."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import exporter
from calibration import METHODS, CalibrationError
from exporter.artifacts import Cache, cache_folder
from exporter.cli import app
from exporter.config import BuildConfig, TrainConfig, VerifyConfig
from exporter.errors import ConfigError, CoverageError
from exporter.models import MODELS
from exporter.models.foreign import FORMS
from exporter.progress import say, track
from exporter.pruning.criteria import CRITERIA
from exporter.report.json import dumps
from exporter.report.model import BuildReport
from exporter.targets import TARGETS
from tests.sample_report import SAMPLE

ROOT = Path(__file__).parents[2]
FAILED = dataclasses.replace(SAMPLE, passed=False, bundle=None)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


class FakePipeline:
    """Stands where the library is called; notes the request and answers with a report."""

    def __init__(self) -> None:
        self.config = BuildConfig()
        self.cache = Cache(Path())
        self.answer: Callable[[], BuildReport] = lambda: SAMPLE

    def build(self, config: BuildConfig, cache: Cache) -> BuildReport:
        self.config, self.cache = config, cache
        sys.stdout.write("a library that talks\n")
        say("a word on the way")
        with track("Training", total=2) as advance:
            advance(1, "loss 0.5")
        return self.answer()


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline()
    monkeypatch.setattr(exporter, "pipeline", fake, raising=False)
    return fake


def raising(error: BaseException) -> Callable[[], BuildReport]:
    def answer() -> BuildReport:
        raise error

    return answer


def test_json_is_the_report_and_nothing_else(pipeline: FakePipeline) -> None:
    result = invoke("build", "--json")
    assert result.exit_code == 0
    assert result.stdout == dumps(SAMPLE)
    assert json.loads(result.stdout)["passed"] is True
    assert "a library that talks" in result.stderr
    assert "a word on the way" in result.stderr


def test_the_table_goes_to_stdout_and_progress_to_stderr(pipeline: FakePipeline) -> None:
    result = invoke("build")
    assert "int8" in result.stdout
    assert "98.06 %" in result.stdout
    assert "a word" not in result.stdout
    assert "a word on the way\n" in result.stderr


def test_quiet_shows_no_progress(pipeline: FakePipeline) -> None:
    result = invoke("build", "--json", "--quiet")
    assert "a word" not in result.stderr
    assert json.loads(result.stdout) == json.loads(dumps(SAMPLE))


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_failed_gate_is_exit_code_1_with_the_report(
    pipeline: FakePipeline, as_json: list[str]
) -> None:
    pipeline.answer = lambda: FAILED
    result = invoke("build", *as_json)
    assert result.exit_code == 1
    assert ('"passed": false' if as_json else "Failed") in result.stdout


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize(
    "error",
    [
        ConfigError("no such thing"),
        CoverageError("no such thing"),
        CalibrationError("no such thing"),
        ConfigError("no\nsuch\nthing"),
    ],
)
def test_a_wrong_request_is_exit_code_2_and_one_line(
    pipeline: FakePipeline, error: Exception, as_json: list[str]
) -> None:
    pipeline.answer = raising(error)
    result = invoke("build", "--quiet", *as_json)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == "a library that talks\nerror: no such thing\n"


@pytest.mark.parametrize(
    ("allocate", "said"),
    [
        (lambda: np.empty(2**58, np.uint8), "Unable to allocate 256. PiB"),
        (lambda: bytearray(2**62), "out of memory"),
        (lambda: torch.empty(2**58, dtype=torch.uint8), "you tried to allocate 288230376151711744"),
    ],
)
def test_too_little_memory_is_exit_code_2_and_one_line(
    pipeline: FakePipeline, allocate: Callable[[], BuildReport], said: str
) -> None:
    pipeline.answer = allocate
    result = invoke("build", "--quiet")
    assert (result.exit_code, result.stdout) == (2, "")
    _, line = result.stderr.splitlines()
    assert line.startswith("error: The memory does not suffice: ")
    assert said in line
    assert "which continues from here" in line


def test_an_interrupt_is_exit_code_130_and_one_line(pipeline: FakePipeline) -> None:
    pipeline.answer = raising(KeyboardInterrupt())
    result = invoke("build", "--quiet", "--json")
    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr.endswith("stopped; the same command continues from here\n")


def test_a_bug_is_not_dressed_up_as_a_wrong_request(pipeline: FakePipeline) -> None:
    pipeline.answer = raising(ValueError("a bug"))
    result = invoke("build")
    assert isinstance(result.exception, ValueError)
    assert "error: " not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["build", "--no-such-option"],
        ["build", "--epochs", "many"],
        ["build", "--epochs", "2.5"],
        ["build", "--resize", "squash"],
        ["build", "--recipe"],
        ["no-such-command"],
        ["convert", "folder"],
        ["verify", "--dense", "a.onnx"],
        ["inspect"],
    ],
)
def test_a_line_that_cannot_be_read_is_exit_code_2(
    pipeline: FakePipeline, arguments: list[str]
) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_command_line_over_recipe_over_default(pipeline: FakePipeline, tmp_path: Path) -> None:
    recipe = tmp_path / "build.toml"
    recipe.write_text(
        'target = "arm64-int8"\n[train]\nepochs = 3\nseed = 5\nflip = true\n[verify]\nthreads = 2\n'
    )
    arguments = ["--recipe", str(recipe), "--epochs", "7", "--no-flip", "--max-drop", "-0.5"]
    assert invoke("build", *arguments).exit_code == 0
    assert pipeline.config == BuildConfig(
        target="arm64-int8",
        train=TrainConfig(epochs=7, seed=5, flip=False),
        verify=VerifyConfig(threads=2, max_drop=-0.5),
    )


def test_a_value_equal_to_the_default_still_wins_over_the_recipe(
    pipeline: FakePipeline, tmp_path: Path
) -> None:
    recipe = tmp_path / "build.toml"
    recipe.write_text("[train]\nseed = 5\n[data]\ndownload = true\n")
    invoke("build", "--recipe", str(recipe), "--seed", "0", "--no-download")
    assert pipeline.config == BuildConfig()


def test_without_options_the_defaults_hold(pipeline: FakePipeline) -> None:
    invoke("build")
    assert pipeline.config == BuildConfig()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "-3"], "--epochs is -3, but must lie between 0 and 100000."),
        (["--max-drop", "nan"], "--max-drop is nan, but must lie between -100 and 100."),
        (["--target", "x"], f"Unknown target 'x'. Known: {', '.join(TARGETS)}."),
        (["--recipe", "nowhere"], "Cannot read the recipe nowhere: No such file or directory."),
    ],
)
def test_a_wrong_value_is_refused_before_anything_runs(
    pipeline: FakePipeline, arguments: list[str], message: str
) -> None:
    pipeline.answer = raising(AssertionError())
    result = invoke("build", *arguments)
    assert result.exit_code == 2
    assert result.stderr == f"error: {message}\n"


def test_a_bad_recipe_is_refused_before_anything_runs(
    pipeline: FakePipeline, tmp_path: Path
) -> None:
    recipe = tmp_path / "build.toml"
    recipe.write_text("[train]\nepoch = 3\n")
    result = invoke("build", "--recipe", str(recipe))
    assert result.exit_code == 2
    expected = f"error: {recipe}: Unknown key 'epoch' in [train]. Did you mean 'epochs' in [train]?"
    assert result.stderr == f"{expected}\n"


def test_where_the_cache_is(tmp_path: Path) -> None:
    assert cache_folder(Path("here"), {"XDG_CACHE_HOME": "/x"}) == Path("here")
    assert cache_folder(None, {"XDG_CACHE_HOME": "/x"}) == Path("/x/edge-exporter")
    default = Path.home() / ".cache/edge-exporter"
    assert cache_folder(None, {}) == default
    assert cache_folder(None, {"XDG_CACHE_HOME": "relative"}) == default


def test_the_cache_can_be_set_by_environment_and_by_option(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EXPORTER_CACHE", str(tmp_path / "environment"))
    invoke("build")
    assert pipeline.cache.root == tmp_path / "environment"
    invoke("build", "--cache", str(tmp_path / "option"))
    assert pipeline.cache.root == tmp_path / "option"


@pytest.mark.parametrize(
    ("command", "column", "names"),
    [
        ("targets", "target", list(TARGETS)),
        ("models", "model", [*MODELS, *FORMS]),
        ("criteria", "criterion", list(CRITERIA)),
        ("methods", "method", ["auto", *METHODS]),
    ],
)
def test_tables_list_every_row_with_a_summary(command: str, column: str, names: list[str]) -> None:
    rows = json.loads(invoke(command, "--json").stdout)
    assert [row[column] for row in rows] == names
    assert all(row["summary"] for row in rows)
    shown = invoke(command).stdout
    assert [name for name in names if name not in shown] == []


def test_stage_commands_pass_on_what_they_were_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[object, ...]] = []

    def verify_files(*arguments: object) -> BuildReport:
        calls.append(arguments)
        return FAILED

    monkeypatch.setattr(
        exporter, "stages", SimpleNamespace(verify_files=verify_files), raising=False
    )
    result = invoke(
        "verify", "--dense", "a.onnx", "--int8", "b.onnx", "--threads", "2", "--target",
        "arm64-int8", "--cache", str(tmp_path), "--json",
    )  # fmt: skip
    assert result.exit_code == 1
    assert result.stdout == dumps(FAILED)
    config = BuildConfig()
    assert calls == [
        (Path("a.onnx"), None, Path("b.onnx"), config.data, VerifyConfig(threads=2), "arm64-int8",
         Cache(tmp_path)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--data", "nowhere"], "nowhere"),
        (["build", "--target", "cpu-int9"], "Unknown target 'cpu-int9'. Known: cpu-int8"),
        (["inspect", "nowhere.onnx"], "nowhere.onnx"),
    ],
)
def test_the_real_program_refuses_in_one_line(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "exporter", *arguments, "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "EXPORTER_CACHE": str(tmp_path / "cache")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
