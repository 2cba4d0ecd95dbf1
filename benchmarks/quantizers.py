"""One quantizer at work, in a process of its own: what it writes, its time, its peak memory.

``benchmarks.against_quantizers`` starts it, with whichever interpreter has the quantizer::

    python -m benchmarks.quantizers CONTENDER JOB.json FOLDER

The file goes to FOLDER, and ``figures.json`` beside it. Imports are neither in the time nor in the
memory that is told beside the peak. Exit code 3 says that a package is missing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING = 3
"""Exit code where a package is missing."""
BATCH = 32
"""Images per calibration batch where the quantizer leaves it open."""
CORE_INPUT = "normalized"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What every contender is given; paths as text, so that JSON can hold them."""

    model: str
    """The float model that takes raw pixels."""
    core: str
    """The same network behind its input side: ``normalized``, float32 [N, C, H, W]."""
    data: str
    calibration_images: int
    cache: str
    """Where the parent has put the decoded images."""
    pixels: str
    """The calibration images, uint8 [N, H, W, C], in a .npy file."""
    mean: tuple[float, ...]
    """What is taken off a pixel before it is divided by ``std``; one per channel, or one."""
    std: tuple[float, ...]


Work = Callable[[], None]
"""What is timed."""


def normalized(pixels: NDArray[np.uint8], job: Job) -> NDArray[np.float32]:
    """Return ``float32 [N, C, H, W]``, as in training, of ``uint8 [N, H, W, C]``."""
    mean, std = np.array(job.mean, np.float32), np.array(job.std, np.float32)
    scaled = (pixels.astype(np.float32) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), dtype=np.float32)


def ours(job: Job, out: Path, target: str) -> Work:
    """This project: four range methods from one calibration, chosen on validation images."""
    from exporter.artifacts import Cache
    from exporter.config import CalibrationConfig, DataConfig
    from exporter.data.load import load_splits
    from exporter.graph.model import read_onnx_model
    from exporter.quantization.calibrate import calibrate
    from exporter.quantization.choose import choose_ranges
    from exporter.targets import find_target

    config = DataConfig(data=job.data, calibration_images=job.calibration_images)
    splits = load_splits(Cache(Path(job.cache)), config)

    def work() -> None:
        cache = Cache(out / "cache")
        model = read_onnx_model(Path(job.model))
        ranges = cache.run(calibrate, CalibrationConfig(), model, splits.calibration)
        int8 = choose_ranges(cache, find_target(target), model, ranges, splits.validation)
        (out / "model.onnx").write_bytes(int8.file.path.read_bytes())

    return work


class _Reader:
    """ONNX Runtime's CalibrationDataReader, which can be gone through once."""

    def __init__(self, job: Job) -> None:
        self._batches = self._read(job)

    def _read(self, job: Job) -> Iterator[dict[str, NDArray[np.float32]]]:
        pixels = np.load(job.pixels, mmap_mode="r")
        # Its histograms want batches of one size.
        for start in range(0, len(pixels) // BATCH * BATCH or len(pixels), BATCH):
            yield {CORE_INPUT: normalized(pixels[start : start + BATCH], job)}

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._batches, None)


def runtime_defaults(job: Job, out: Path) -> Work:
    """``quantize_static`` as it comes: S8S8, one scale per tensor, minimum and maximum."""
    from onnxruntime.quantization import quantize_static

    return lambda: quantize_static(job.core, out / "model.onnx", _Reader(job))


def runtime_by_hand(job: Job, out: Path, method: str, reduce_range: bool) -> Work:
    """``quantize_static`` with what its documentation and source advise for x86."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    def work() -> None:
        prepared = out / "prepared.onnx"
        quant_pre_process(job.core, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            out / "model.onnx",
            _Reader(job),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=reduce_range,
            calibrate_method=CalibrationMethod[method],
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
        )

    return work


def nncf_onnx(job: Job, out: Path, accurate: bool) -> Work:
    """NNCF on the ONNX graph."""
    import nncf
    import onnx

    def work() -> None:
        quantized = nncf.quantize(onnx.load(job.core), **_nncf_settings(nncf, job, accurate))
        onnx.save(quantized, out / "model.onnx")

    return work


def nncf_openvino(job: Job, out: Path, accurate: bool) -> Work:
    """NNCF on OpenVINO's own form of the graph."""
    import nncf
    import openvino

    def work() -> None:
        model = openvino.Core().read_model(job.core)
        quantized = nncf.quantize(model, **_nncf_settings(nncf, job, accurate))
        openvino.save_model(quantized, out / "model.xml", compress_to_fp16=False)

    return work


def _nncf_settings(nncf: Any, job: Job, accurate: bool) -> dict[str, Any]:
    pixels = np.load(job.pixels, mmap_mode="r")
    images = [pixels[index : index + 1] for index in range(len(pixels))]
    settings = {
        "calibration_dataset": nncf.Dataset(
            images, lambda image: {CORE_INPUT: normalized(image, job)}
        ),
        "subset_size": len(images),  # the same images as everybody; its default is 300
    }
    if accurate:
        settings |= {"preset": nncf.QuantizationPreset.MIXED, "fast_bias_correction": False}
    return settings


CONTENDERS: dict[str, Callable[[Job, Path], Work]] = {
    "ours": partial(ours, target="cpu-int8"),
    "ours, VNNI only": partial(ours, target="cpu-int8-vnni"),
    "ORT, defaults": runtime_defaults,
    **{
        f"ORT by hand, {method.lower()}{', 7 bits' if seven else ''}": partial(
            runtime_by_hand, method=method, reduce_range=seven
        )
        for method in ("MinMax", "Percentile", "Entropy")
        for seven in (False, True)
    },
    "NNCF": partial(nncf_onnx, accurate=False),
    "NNCF, accurate": partial(nncf_onnx, accurate=True),
    "NNCF for OpenVINO": partial(nncf_openvino, accurate=False),
    "NNCF for OpenVINO, accurate": partial(nncf_openvino, accurate=True),
}
"""In the order of the table. Those without "ours" or "ORT" need NNCF."""
PACKAGES = ("onnx", "onnxruntime", "nncf", "openvino")


def peak_mb() -> float:
    """Return the largest resident size of this process so far.

    From /proc, because ``getrusage`` still counts the parent before ``exec``.
    """
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main(name: str, job_file: Path, out: Path) -> None:
    """Let one contender work and write down what it took."""
    job = Job(**json.loads(job_file.read_text()))
    try:
        work = CONTENDERS[name](job, out)
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(MISSING)
    imports = peak_mb()
    started = time.perf_counter()
    work()
    figures = {
        "seconds": time.perf_counter() - started,
        "peak_mb": peak_mb(),
        "imports_mb": imports,
        "versions": {package: _version(package) for package in PACKAGES},
    }
    (out / "figures.json").write_text(json.dumps(figures))


def write_job(job: Job, path: Path) -> None:
    """Write what ``main`` reads."""
    path.write_text(json.dumps(asdict(job)))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ImportError:
        return None


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
