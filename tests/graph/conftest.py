from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.graph.model import OnnxModel


@pytest.fixture(scope="session")
def plain(exports: Callable[[str], OnnxModel]) -> OnnxModel:
    return exports("plain")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"
