"""`tune` and `worker` on real images, with a network that trains in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from exporter.cli import app

DATA = ["--size", "20x20", "--test-share", "0.4"]
TRAINING = ["--widths", "32,32,32", "--epochs", "3", "--finetune-epochs", "2"]
LOOSE = ["--max-drop", "100", "--min-speedup", "0", "--timing-seconds", "0.2"]


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--cache", f"{folder}/cache", "--json"])


def tune(folder: Path, *arguments: str) -> Result:
    fixed = ["--out", f"{folder}/tuned", "--budget", "10m", "--winners", "1", "--quick-share", "0"]
    return run(folder, "tune", *DATA, *TRAINING, *LOOSE, *fixed, *arguments)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with a search of three trials, and its report."""
    folder = tmp_path_factory.mktemp("search")
    result = tune(folder, "--trials", "3")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return folder, found


@pytest.mark.slow
def test_a_search_ends_in_a_verified_bundle(searched: tuple[Path, dict[str, Any]]) -> None:
    folder, found = searched

    # A quarter of the work cannot be reached with widths that are multiples of 16.
    assert (found["outcomes"]["measured"], found["outcomes"]["impossible"]) == (2, 1)
    (winner,) = found["winners"]
    assert winner["passed"]
    assert (Path(winner["bundle"]) / "model.onnx").is_file()
    best = {point["trial"]: point for point in found["points"]}[winner["trial"]]
    assert winner["kb"] == pytest.approx(best["kb"])
    assert best["top1"] == max(point["top1"] for point in found["points"])
    assert json.loads((folder / "tuned" / "tune.json").read_text()) == found
    text = (folder / "tuned" / "tune.md").read_text()
    assert f"| {winner['trial']} | {best['top1']:.2f} %" in text
    assert (folder / "tuned" / "tune.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_later_trials_reuse_what_is_there(searched: tuple[Path, dict[str, Any]]) -> None:
    first, second = searched[1]["points"]

    assert (first["values"]["kept"], second["values"]["kept"]) == (0.5, 1.0)
    # The images and the dense network: loaded, trained, exported and judged by the first trial.
    assert second["reused"] >= 4
    assert second["stages"] - second["reused"] < first["stages"]


@pytest.mark.slow
def test_the_same_command_goes_on_and_another_is_refused(
    searched: tuple[Path, dict[str, Any]],
) -> None:
    folder, found = searched

    again = tune(folder, "--trials", "1")
    other = tune(folder, "--trials", "1", "--max-ms", "5")

    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["points"][:2] == found["points"]
    assert sum(json.loads(again.stdout)["outcomes"].values()) == 4
    assert other.exit_code == 2
    assert "asks for something else" in other.stderr


@pytest.mark.slow
def test_a_worker_joins_by_the_storage_alone(searched: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = searched
    storage = f"sqlite:///{folder}/tuned/search.db"

    joined = run(folder, "worker", "--storage", storage, "--trials", "1")

    assert joined.exit_code == 0, joined.stderr
    assert sum(v for v in json.loads(joined.stdout).values() if isinstance(v, int)) >= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune", "--budget", "soon"], "--budget is 'soon', but must be a time"),
        (["tune", "--minutes", "1", "--budget", "1m"], "Say --epochs for a search"),
        (["tune", "--size", "16x16"], "edge-vgg needs images of at least 18 pixels a side"),
        (["worker"], "A worker needs --storage"),
        (["worker", "--storage", "nonsense"], "--storage nonsense cannot be used"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = run(tmp_path, *arguments, *where(tmp_path, arguments))

    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def where(folder: Path, arguments: list[str]) -> list[str]:
    return ["--out", f"{folder}/tuned"] if arguments[0] == "tune" else []


def test_without_optuna_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.cli.tune.find_spec", lambda name: None)

    result = run(tmp_path, "tune")

    assert result.exit_code == 2
    assert "pip install 'edge-exporter[tune]'" in result.stderr
