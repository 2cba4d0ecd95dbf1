"""Does an ONNX file compute what the torch network computes?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.contract import INPUT_NAME, InputContract
from exporter.errors import GraphError
from exporter.outputs import largest_difference, named_tensors
from exporter.training.augmentation import normalise

PROBE_IMAGES = 8
PROBE_SEED = 0


def probe_pixels(contract: InputContract, count: int = PROBE_IMAGES) -> NDArray[np.uint8]:
    """Return random pixels ``[count, H, W, C]``, the same ones every time."""
    shape = (count, contract.height, contract.width, contract.channels)
    return np.random.default_rng(PROBE_SEED).integers(0, 256, shape, dtype=np.uint8)


def measure_parity(module: nn.Module, contract: InputContract, path: Path) -> float:
    """Return the largest difference of a logit, relative to the largest |logit| of torch.

    Where the network returns several tensors, each is compared with its own largest value.

    The probe is a batch of random pixels, and its first image alone: a file in which images of a
    batch influence each other, or that fits one batch size, does not pass.

    Args:
        module: a network in eval mode, on normalised pixels.
        contract: the file's input side.
        path: the ONNX file.

    Raises:
        GraphError: ONNX Runtime cannot run the file on the probe.
    """
    import onnxruntime as ort

    pixels = probe_pixels(contract)
    with torch.inference_mode():
        normalized = normalise(torch.from_numpy(pixels), contract).contiguous()
        expected = named_tensors(module(normalized))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # the probe is small, and sums keep their order
    options.log_severity_level = 4  # failures are raised
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        batch, single = (session.run(None, {INPUT_NAME: images}) for images in (pixels, pixels[:1]))
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        detail = " ".join(str(error).split())
        raise GraphError(f"ONNX Runtime cannot run the exported file: {detail}") from error
    whole = list(expected.values())
    return largest_difference(batch + single, whole + [tensor[:1] for tensor in whole])
