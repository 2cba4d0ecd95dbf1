from __future__ import annotations

from pathlib import Path

import pytest

from exporter.artifacts import Artifact
from exporter.errors import GraphError
from exporter.report.model import NotMeasured
from exporter.verification import cold_start, start_once
from exporter.verification.cold_start import measure_starts
from tests.verification.linear_model import RIGHT, linear_model, qdq_model


def test_every_model_starts_in_processes_of_its_own(tmp_path: Path) -> None:
    models = {
        "dense": linear_model(tmp_path / "dense.onnx", RIGHT),
        "int8": qdq_model(tmp_path / "int8.onnx"),
    }

    found = measure_starts(models, threads=1, starts=1)

    assert [(entry.model, entry.starts) for entry in found] == [("dense", 1), ("int8", 1)]
    for entry in found:
        assert 0 < entry.first_run_ms < entry.session_ms
        if isinstance(entry.peak_bytes, NotMeasured):
            continue
        assert isinstance(entry.added_bytes, int)
        assert 0 < entry.added_bytes < entry.peak_bytes < 1e9


def test_the_median_counts_and_memory_may_be_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = iter(
        {"session_ns": 1_000_000 * ns, "first_run_ns": ns, "before_bytes": 5, "peak_bytes": ns}
        for ns in (90, 20, 30)
    )
    monkeypatch.setattr(cold_start, "_start", lambda model, threads: next(runs))
    models = {"int8": Artifact(path=Path("none"), sha256="")}

    (known,) = measure_starts(models, threads=1, starts=3)

    assert (known.session_ms, known.peak_bytes, known.added_bytes) == (30.0, 30, 25)

    unknown = {"session_ns": 1, "first_run_ns": 1, "before_bytes": None, "peak_bytes": None}
    monkeypatch.setattr(cold_start, "_start", lambda model, threads: unknown)
    (found,) = measure_starts(models, threads=1, starts=1)
    assert (
        found.peak_bytes
        == found.added_bytes
        == NotMeasured(not_measured="this system does not tell")
    )


def test_a_process_that_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    model = Artifact.of(tmp_path / "broken.onnx")

    with pytest.raises(GraphError, match=r"broken\.onnx cannot be run in a process of its own: "):
        measure_starts({"int8": model}, threads=1, starts=1)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL ended it. If that"),
        ("import time; time.sleep(60)", r"no answer within 0\.2 s\."),
        ("raise SystemExit('no such thing')", "no such thing"),
    ],
)
def test_a_process_that_is_killed_or_hangs_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(start_once, "__file__", str(tmp_path / "program.py"))
    if "sleep" in program:
        monkeypatch.setattr(cold_start, "TIMEOUT_SECONDS", 0.2)
    with pytest.raises(GraphError, match=f"model cannot be run in a process of its own: {said}"):
        measure_starts({"int8": Artifact.of(_file(tmp_path / "model"))}, threads=1, starts=1)


def _file(path: Path) -> Path:
    path.write_bytes(b"")
    return path
