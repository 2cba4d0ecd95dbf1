"""The emulation of a layer against the kernels of a real AVX2 build, run by QEMU without VNNI."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.emulation.emulator import Emulator, find_emulator
from exporter.errors import EmulationError
from exporter.quantization.columns import channels_last
from exporter.quantization.integer_layers import IntegerLayer, integer_layers
from exporter.quantization.saturated_sums import emulate
from exporter.quantization.saturation import can_saturate, saturating_layers
from tests.quantization.integer_graphs import (
    INPUT_SCALE,
    OUTPUT_SCALE,
    OUTPUT_ZERO,
    one_layer,
    pixels,
    rails,
)

CASES = {
    "symmetric": ("Conv<kernel_shape=[3,3], pads=[1,1,1,1]>", (16, 8, 3, 3), (2, 8, 6, 7)),
    "pointwise": ("Conv<kernel_shape=[1,1]>", (16, 12, 1, 1), (2, 12, 6, 7)),
    "stem": ("Conv<kernel_shape=[3,3], pads=[1,1,1,1]>", (8, 3, 3, 3), (2, 3, 6, 7)),
    "strided": ("Conv<kernel_shape=[3,3], strides=[2,2]>", (24, 5, 3, 3), (2, 5, 9, 9)),
    "grouped": ("Conv<kernel_shape=[3,3], group=2>", (16, 6, 3, 3), (2, 12, 6, 7)),
    "gemm": ("Gemm<transB=1>", (10, 37), (5, 37)),
    "vector": ("Gemm<transB=1>", (20, 40), (1, 40)),
    "matmul": ("MatMul", (37, 24), (3, 37)),
}
DEPTHWISE = {
    "sixteen": ("Conv<kernel_shape=[3,3], group=32>", (32, 1, 3, 3), (2, 32, 6, 7)),
    "others": ("Conv<kernel_shape=[3,3], group=12>", (12, 1, 3, 3), (2, 12, 6, 7)),
}
"""ONNX Runtime has a kernel for multiples of 16 channels, and one for the rest."""
SCRIPT = """
import sys
import numpy as np
import onnxruntime as ort
for name in sys.argv[1:]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    np.save(f"{name}.out.npy", session.run(None, {"p": np.load(f"{name}.npy")})[0])
"""


@pytest.fixture(scope="module")
def avx2() -> Emulator:
    try:
        return find_emulator("avx2")
    except EmulationError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def computed(avx2: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the emulated CPU has left what it computed in all cases."""
    folder = tmp_path_factory.mktemp("avx2")
    cases = CASES | DEPTHWISE
    for name, (operator, shape, image) in cases.items():
        model = one_layer(operator, rails(*shape))
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        np.save(folder / f"{name}.npy", pixels(*image))
    (folder / "run.py").write_text(SCRIPT)
    subprocess.run(
        [*avx2.command, "run.py", *cases], cwd=folder, env=dict(avx2.environment), check=True
    )
    return folder


def as_bytes(layer: IntegerLayer, sums: NDArray[np.int32]) -> NDArray[np.float32]:
    factors = np.float32(INPUT_SCALE) * layer.row_scales / np.float32(OUTPUT_SCALE)
    rounded = np.rint(sums.astype(np.float32) * factors) + OUTPUT_ZERO
    shown: NDArray[np.float32] = np.clip(rounded, 0, 255)
    return shown


@pytest.mark.parametrize("name", CASES)
def test_an_avx2_cpu_clips_just_these_pairs(computed: Path, name: str) -> None:
    operator, shape, image = CASES[name]
    (layer,) = integer_layers(one_layer(operator, rails(*shape)))
    real = channels_last(layer, np.load(computed / f"{name}.out.npy"))

    found = emulate(layer, pixels(*image))

    np.testing.assert_array_equal(real, as_bytes(layer, found.saturated))
    assert found.clipped > 0
    assert (as_bytes(layer, found.exact) != real).mean() > 0.05  # or the test would say nothing


@pytest.mark.parametrize("name", DEPTHWISE)
def test_an_avx2_cpu_clips_nothing_of_a_depthwise_convolution(computed: Path, name: str) -> None:
    operator, shape, image = DEPTHWISE[name]
    model = one_layer(operator, rails(*shape))
    (layer,) = integer_layers(model)
    real = channels_last(layer, np.load(computed / f"{name}.out.npy"))

    found = emulate(layer, pixels(*image))

    assert can_saturate(layer.rows)  # its neighbours could, were they added in pairs
    assert saturating_layers(model) == ()
    np.testing.assert_array_equal(real, as_bytes(layer, found.exact))
