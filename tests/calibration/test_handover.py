"""What ONNX Runtime makes of our ranges, against its own calibrator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.calibrate import load_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process

from calibration import METHODS, ArrayStream, collect_ranges, write_onnxruntime_ranges
from tests.calibration import nets

BATCH = 8
UNSIGNED_BY_SIGNED = {
    "activation_type": QuantType.QUInt8,
    "weight_type": QuantType.QInt8,
    "per_channel": True,
}


class Reader:
    """ONNX Runtime's kind of stream: the float model's input, once."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.batches = iter(np.array_split(pixels, range(BATCH, len(pixels), BATCH)))

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"normalized": nets.normalized(batch)}


def preprocessed(core: onnx.ModelProto, folder: Path) -> Path:
    nets.saved(core, folder / "core.onnx")
    quant_pre_process(
        str(folder / "core.onnx"), str(folder / "ready.onnx"), skip_symbolic_shape=True
    )
    return folder / "ready.onnx"


def our_ranges(core: onnx.ModelProto, folder: Path, pixels: NDArray[np.uint8]) -> dict[str, Path]:
    raw = nets.saved(nets.raw_bytes(core), folder / "raw.onnx")
    samples = ArrayStream(samples=pixels, input_name="image", batch_size=BATCH)
    written = {}
    for method, ranges in collect_ranges(raw, samples, list(METHODS)).items():
        written[method] = folder / f"{method}.json"
        write_onnxruntime_ranges(ranges, written[method])
    return written


def quantized(
    ready: Path, output: Path, *, reader: Reader | None = None, ranges: Path | None = None
) -> bytes:
    quantize_static(ready, output, reader, calibration_cache_path=ranges, **UNSIGNED_BY_SIGNED)
    return output.read_bytes()


@pytest.mark.parametrize("count", [16, 21])
@pytest.mark.parametrize("net", nets.FOLDED)
def test_minmax_is_onnxruntimes_own_to_the_byte(tmp_path: Path, net: str, count: int) -> None:
    core = nets.NETS[net]()
    ready = preprocessed(core, tmp_path)
    pixels = nets.images(count)

    theirs = quantized(ready, tmp_path / "theirs.onnx", reader=Reader(pixels))
    ours = quantized(
        ready, tmp_path / "ours.onnx", ranges=our_ranges(core, tmp_path, pixels)["minmax"]
    )
    assert ours == theirs


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("net", nets.NETS)
def test_no_tensor_is_missing_and_the_result_is_close_to_float(
    tmp_path: Path, net: str, method: str
) -> None:
    core = nets.NETS[net]()
    ready = preprocessed(core, tmp_path)
    pixels = nets.images(64)
    # A range that is missing is a KeyError in the quantizer.
    quantized(ready, tmp_path / "int8.onnx", ranges=our_ranges(core, tmp_path, pixels)[method])

    inputs = {"normalized": nets.normalized(pixels)}
    exact, approximate = (
        onnxruntime.InferenceSession(path).run(["logits"], inputs)[0]
        for path in (ready, tmp_path / "int8.onnx")
    )
    # Random weights, random pixels: a few per cent of the spread is what 8 bits give here.
    assert np.sqrt(np.mean((exact - approximate) ** 2)) < 0.06 * exact.std()


def test_the_file_holds_float32_ranges_of_kind_minmax(tmp_path: Path) -> None:
    written = our_ranges(nets.chain(), tmp_path, nets.images(8))["mse"]
    loaded = load_tensors_data(written)

    assert loaded.calibration_method == CalibrationMethod.MinMax
    low, high = loaded["normalized"].range_value
    assert low.dtype == high.dtype == np.float32
    assert -2.0 <= low < 0.0 < high <= 127 / 64
    assert len(list(loaded.keys())) == 9
