"""One bundle for all tests of the runner; each test that damages it works on a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tiny_bundle import tiny_bundle


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that nobody changes."""
    return tiny_bundle(tmp_path_factory.mktemp("shipped"))


@pytest.fixture
def copy(shipped: Path, tmp_path: Path) -> Path:
    """A bundle to be damaged."""
    return Path(shutil.copytree(shipped, tmp_path / "bundle"))
