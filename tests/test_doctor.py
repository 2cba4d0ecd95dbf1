"""The doctor: says what is missing, and only then that something is."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exporter import doctor
from exporter.cli import app
from exporter.data.cifar10 import FILES, FOLDER
from exporter.doctor import Check, diagnose


def checks(tmp_path: Path) -> dict[str, Check]:
    return {check.name: check for check in diagnose(tmp_path / "cache", tmp_path / "data").checks}


def pretend(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Let distributions (underscores for dashes) have other versions, or be absent."""
    known = {name.replace("_", "-"): found for name, found in versions.items()}

    def version(name: str) -> str:
        found = known.get(name, "as it is")
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return metadata.version(name) if found == "as it is" else found

    monkeypatch.setattr(doctor, "version", version)


def test_a_machine_that_runs_these_tests_is_healthy(tmp_path: Path) -> None:
    diagnosis = diagnose(tmp_path / "cache", tmp_path / "data")
    assert diagnosis.healthy
    found = {check.name: check.status for check in diagnosis.checks}
    assert found["torch"] == found["onnxruntime"] == found["threads"] == found["cache"] == "ok"
    assert {"python", "cpu", "instruction sets", "cifar10", "scikit-learn"} <= set(found)
    assert not (tmp_path / "cache").exists()


def test_a_missing_library_is_named_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, safetensors=None)
    found = checks(tmp_path)["safetensors"]
    assert found.status == "missing"
    assert "pip install 'safetensors" in found.remedy
    assert not diagnose(tmp_path, tmp_path).healthy


def test_a_library_that_does_not_load_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    found = checks(tmp_path)["safetensors"]
    assert found.status == "missing"
    assert "does not load" in found.found


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ("1.99.9", "missing"),
        ("2.13", "missing"),
        ("2.14", "ok"),
        ("2.14.0+cpu", "ok"),
        ("2.14.1", "ok"),
        ("10.0", "ok"),
    ],
)
def test_versions_are_compared_as_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: str, status: str
) -> None:
    pretend(monkeypatch, torch=found)
    monkeypatch.setattr(
        doctor, "requires", lambda _: ["torch-pruning>=1.6", "torch>=2.14.0", "rich"]
    )
    assert checks(tmp_path)["torch"].status == status


def test_a_rival_of_onnxruntime_is_noted_but_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "onnxruntime-tools" not in checks(tmp_path)
    pretend(monkeypatch, onnxruntime_tools="1.7.0")
    found = checks(tmp_path)["onnxruntime-tools"]
    assert found.status == "note"
    assert "pip uninstall -y onnxruntime-tools" in found.remedy
    assert diagnose(tmp_path, tmp_path).healthy


def test_cifar10_is_found_or_the_way_to_get_it_is_told(tmp_path: Path) -> None:
    missing = checks(tmp_path)["cifar10"]
    assert missing.status == "note"
    assert "--download" in missing.remedy
    (tmp_path / "data" / FOLDER).mkdir(parents=True)
    for file in FILES:
        (tmp_path / "data" / FOLDER / file).touch()
    assert checks(tmp_path)["cifar10"].status == "ok"


def test_a_cache_that_cannot_be_a_folder_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    diagnosis = diagnose(tmp_path / "file" / "cache", tmp_path)
    assert not diagnosis.healthy
    assert [check.name for check in diagnosis.checks if check.status == "missing"] == ["cache"]


def test_without_ssh_there_is_a_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = checks(tmp_path)["ssh"]
    assert (found.status, "openssh-client" in found.remedy) == ("note", True)


def test_the_command_exits_0_or_1_and_prints_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = ["doctor", "--cache", str(tmp_path), "--data-root", str(tmp_path)]
    healthy = CliRunner().invoke(app, [*arguments, "--json"])
    assert healthy.exit_code == 0
    assert json.loads(healthy.stdout)["healthy"] is True
    pretend(monkeypatch, safetensors=None)
    ill = CliRunner().invoke(app, arguments)
    assert ill.exit_code == 1
    assert "MISSING" in ill.stdout
    assert "pip install 'safetensors" in ill.stdout
