from __future__ import annotations

from collections.abc import Callable

import pytest

from exporter.graph.model import OnnxModel
from exporter.quantization.corrections.pairs import Pixels, pixels_for
from exporter.quantization.quantize import QuantizedCore, quantized_core
from exporter.targets import find_target
from tests.graph import networks
from tests.quantization.conftest import Calibrator

IMAGES = 24


@pytest.fixture(scope="session")
def core(exports: Callable[[str], OnnxModel], calibrated: Calibrator) -> QuantizedCore:
    """A network with convolutions and fully connected layers, some of them with seven bits."""
    model = exports("plain")
    return quantized_core(find_target("cpu-int8"), model, calibrated(model))


@pytest.fixture(scope="session")
def pixels(core: QuantizedCore) -> Pixels:
    return pixels_for(core, networks.pixels(IMAGES), networks.CONTRACT)
