from __future__ import annotations

from pathlib import Path

import pytest

from exporter.artifacts import Artifact
from exporter.errors import GraphError
from exporter.report.model import NotMeasured
from exporter.verification import cold_start
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
