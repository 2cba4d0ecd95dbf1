"""Ranges for ONNX Runtime, through its public range file.

``quantize_static(model, output, None, calibration_cache_path=path)`` reads the file instead of
running a calibrator of its own. Whatever method chose the ranges, the file says MinMax: that is
the only kind that holds plain ranges.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnxruntime.quantization.calibrate import (
    CalibrationMethod,
    TensorsData,
    save_tensors_data,
)

from calibration.ranges import Ranges


def write_onnxruntime_ranges(ranges: Ranges, path: Path) -> None:
    """Write ``ranges`` for ``quantize_static`` (calibrate_method MinMax, its default)."""
    data = {
        name: (np.float32(chosen.low), np.float32(chosen.high))
        for name, chosen in ranges.by_tensor.items()
    }
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, data), path)
