from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.config import VerifyConfig
from exporter.verification import latency, settings
from exporter.verification.settings import measure_settings
from tests.verification.linear_model import RIGHT, linear_model

IMAGE = np.zeros((20, 20, 3), np.uint8)
QUICK = VerifyConfig(timing_seconds=0.1)


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "usable_cores", lambda: 1)


@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize(("batch", "batches"), [("N", [1, 8, 32]), (1, [1])])
def test_larger_batches_where_both_files_allow_them(
    tmp_path: Path, batch: str | int, batches: list[int]
) -> None:
    dense = linear_model(tmp_path / "dense.onnx", RIGHT)
    shipped = linear_model(tmp_path / "shipped.onnx", RIGHT, batch=batch)

    found = measure_settings(QUICK, dense, shipped, IMAGE)

    assert [(entry.threads, entry.batch) for entry in found] == [(1, size) for size in batches]
    for entry in found:
        assert min(entry.dense_ms, entry.shipped_ms) > 0
        low, high = entry.speedup_ci
        assert low <= entry.speedup <= high
        assert entry.noise >= 1
        assert entry.beyond_noise is (low > entry.noise or high < 1 / entry.noise)


def test_one_thread_and_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    real = latency.measure_latency

    def spy(config, *args, batch, **names):  # type: ignore[no-untyped-def]
        asked.append((config.threads, batch))
        return real(VerifyConfig(timing_seconds=0.1), *args, **names)

    monkeypatch.setattr(settings, "measure_latency", spy)
    monkeypatch.setattr(settings, "usable_cores", lambda: 6)
    monkeypatch.setattr(settings, "BATCHES", (1, 8))
    model = linear_model(tmp_path / "model.onnx", RIGHT)

    found = measure_settings(QUICK, model, model, IMAGE)

    assert asked == [(1, 1), (1, 8), (6, 1), (6, 8)]
    assert [(entry.threads, entry.batch) for entry in found] == asked
