"""Logits of some images, computed by the CPU that this runs on: the part that is emulated.

    runner.py HAS LACKS MODEL.onnx IMAGES.npy START STOP OUT.npy

Needs numpy and onnxruntime only. Stops unless numpy finds the CPU feature HAS and not LACKS. One
byte goes to stdout for each image that is done, and a file to OUT.npy when all are.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import onnxruntime as ort
from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]  # has no stub
    __cpu_features__ as cpu_features,
)

BATCH = 8
"""Where the model leaves it open."""
ERRORS_ONLY = 3
STDOUT = 1


def main(has: str, lacks: str, model: str, images: str, start: str, stop: str, out: str) -> None:
    """Write ``float32 [STOP - START, classes]`` logits of these images to ``out``."""
    if not cpu_features[has] or cpu_features[lacks]:
        sys.exit(f"the emulated CPU should have {has} and lack {lacks}, but says otherwise")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image = session.get_inputs()[0]
    size = image.shape[0] if isinstance(image.shape[0], int) else BATCH
    pixels = np.load(images, mmap_mode="r")[int(start) : int(stop)]
    logits = []
    for first in range(0, len(pixels), size):
        batch = np.ascontiguousarray(pixels[first : first + size])
        logits.append(session.run(None, {image.name: batch})[0])
        os.write(STDOUT, b"." * len(batch))  # fails once nobody listens, which ends this process
    np.save(out, np.concatenate(logits))


if __name__ == "__main__":
    main(*sys.argv[1:])
