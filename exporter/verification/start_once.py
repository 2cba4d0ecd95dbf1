"""A process that loads one model, classifies one image, and tells what that took.

This is a program, which knows nothing but numpy and onnxruntime; ``cold_start`` runs it. Memory is
read from Linux's /proc, since ``getrusage`` counts what the parent had before the program began.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

_STATUS = Path("/proc/self/status")
_SILENT = 4


def memory(entry: str) -> int | None:
    """Return the bytes behind ``VmRSS`` or ``VmHWM`` (its peak); None on other systems."""
    if not _STATUS.is_file():
        return None
    found = (line.split() for line in _STATUS.read_text().splitlines())
    return next((int(words[1]) * 1024 for words in found if words[0] == f"{entry}:"), None)


def start(model: str, threads: int) -> dict[str, int | None]:
    """Return nanoseconds of loading and of the first run, and bytes before and at the peak."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _SILENT
    before = memory("VmRSS")
    begin = time.perf_counter_ns()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    loaded = time.perf_counter_ns()
    (image,) = session.get_inputs()
    pixels = np.zeros((1, *image.shape[1:]), np.uint8)
    first = time.perf_counter_ns()
    session.run(None, {image.name: pixels})
    done = time.perf_counter_ns()
    return {
        "session_ns": loaded - begin,
        "first_run_ns": done - first,
        "before_bytes": before,
        "peak_bytes": memory("VmHWM"),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(start(sys.argv[1], int(sys.argv[2]))) + "\n")
