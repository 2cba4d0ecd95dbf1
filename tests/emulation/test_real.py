"""Emulated CPUs, for real: AVX2 saturates full-range weights, ours fit, ARM64 never saturates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from calibration import ArrayStream, collect_ranges
from exporter.artifacts import Artifact
from exporter.emulation.emulator import Emulator, find_emulator
from exporter.emulation.predict import run_emulated
from exporter.errors import EmulationError
from exporter.quantization.quantize import quantize
from exporter.targets import find_target
from exporter.verification.session import open_session
from tests.graph import networks

COUNT = 8


def emulator(isa: str) -> Emulator:
    try:
        return find_emulator(isa)
    except EmulationError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    """A network whose weights all stand at the rails, quantized for a target."""
    network = networks.network("plain")
    weight = network.get_parameter("conv1.weight")
    with torch.no_grad():
        weight.sign_()
    folder = tmp_path_factory.mktemp("network")
    model = networks.exported(network, folder)
    stream = ArrayStream(samples=networks.pixels(32), input_name="image", batch_size=16)
    ranges = folder / "minmax.json"
    ranges.write_text(collect_ranges(model.file.path, stream, ["minmax"])["minmax"].to_json())

    def quantized(target: str) -> Artifact:
        out = tmp_path_factory.mktemp(target)
        return quantize(out, find_target(target), model, Artifact.of(ranges), "minmax").file

    return quantized


def differences(isa: str, file: Artifact, folder: Path) -> tuple[NDArray[np.float32], float]:
    """Return native logits, and how far those of the emulated CPU are away at most."""
    found = emulator(isa)
    images = networks.pixels(COUNT)
    native = open_session(file, threads=1).run(None, {"image": images})[0]
    np.save(folder / "images.npy", images)
    there = run_emulated(found, file.path, folder / "images.npy", COUNT, folder)
    return native, float(np.abs(there - native).max())


def test_full_range_weights_saturate_on_avx2(
    files: Callable[[str], Artifact], tmp_path: Path
) -> None:
    native, difference = differences("avx2", files("cpu-int8-vnni"), tmp_path)
    assert difference > 0.05 * np.abs(native).max()


@pytest.mark.parametrize(
    ("isa", "target"),
    [("avx2", "cpu-int8"), ("arm64-neon", "cpu-int8"), ("arm64-dotprod", "arm64-int8")],
)
def test_a_file_gives_the_same_logits_on_every_cpu_that_its_target_promises(
    files: Callable[[str], Artifact], tmp_path: Path, isa: str, target: str
) -> None:
    assert differences(isa, files(target), tmp_path)[1] == 0.0
