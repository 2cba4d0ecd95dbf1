"""Activation ranges for static quantization, from streams of samples in bounded memory.

``collect_ranges`` runs a float ONNX model over a stream twice (running minima and maxima, then
histograms over fixed edges) and lets any number of methods choose ranges from what was seen;
``write_onnxruntime_ranges`` hands a result to ``onnxruntime.quantization.quantize_static``.

Needs numpy, onnx and onnxruntime only.
"""

from __future__ import annotations

from calibration.collect import collect_ranges, passes_needed
from calibration.errors import CalibrationError
from calibration.handover import write_onnxruntime_ranges
from calibration.methods import METHODS, Method, find_method
from calibration.observers import Histogram, MinMax
from calibration.ranges import Range, Ranges
from calibration.stream import Array, ArrayStream, CalibrationStream

__all__ = [
    "METHODS",
    "Array",
    "ArrayStream",
    "CalibrationError",
    "CalibrationStream",
    "Histogram",
    "Method",
    "MinMax",
    "Range",
    "Ranges",
    "collect_ranges",
    "find_method",
    "passes_needed",
    "write_onnxruntime_ranges",
]
