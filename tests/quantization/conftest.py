from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from calibration import ArrayStream, collect_ranges
from exporter.artifacts import Artifact
from exporter.graph.model import OnnxModel
from tests.graph import networks

Calibrator = Callable[[OnnxModel], Artifact]


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Calibrator:
    """Ranges of a model on 32 images of noise, by minmax."""

    @cache
    def measure(path: Path) -> Artifact:
        stream = ArrayStream(samples=networks.pixels(32), input_name="image", batch_size=16)
        ranges = collect_ranges(path, stream, ["minmax"])["minmax"]
        file = tmp_path_factory.mktemp("ranges") / "minmax.json"
        file.write_text(ranges.to_json())
        return Artifact.of(file)

    return lambda model: measure(model.file.path)
