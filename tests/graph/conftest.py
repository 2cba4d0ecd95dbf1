from __future__ import annotations

from pathlib import Path

import pytest

from exporter.graph.model import OnnxModel
from tests.graph import networks


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    return networks.exported(networks.network("plain"), tmp_path_factory.mktemp("plain"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"
