"""Does the file with the contract compute what the user's file computes?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, helper

from exporter.contract import INPUT_NAME
from exporter.errors import GraphError
from exporter.intake.image_input import ImageInput
from exporter.intake.run import open_model
from exporter.normalization import Normalization
from exporter.outputs import largest_difference

PROBE_IMAGES = 8
PROBE_SEED = 0


def measure_parity(
    user: ModelProto,
    image: ImageInput,
    batch: int,
    pixels: Normalization,
    matrix: NDArray[np.float64],
    rows: list[int] | None,
    path: Path,
) -> float:
    """Return the largest difference of an output, relative to its largest absolute value.

    The probe is random pixels: for the user's file normalised by hand, for ours the bytes as they
    are, as a batch and the first image alone.

    Args:
        user: the user's graph, its input fixed to ``batch`` images.
        image: its input.
        batch: images that it takes at once.
        pixels: what it wants of red, green and blue.
        matrix: ``[channels, 3]``, its channels from red, green and blue.
        rows: of its logits, those that our file has, in our order; None where all of its outputs
            are compared as they are.
        path: our file.

    Raises:
        GraphError: worded to follow the user's file's name: one of the files cannot be run.
    """
    generator = np.random.default_rng(PROBE_SEED)
    shape = (PROBE_IMAGES, image.height, image.width, 3)
    raw = generator.integers(0, 256, shape, dtype=np.uint8)
    if image.channels == 1:
        raw[:] = raw[..., :1]  # grey as it is, so that whole numbers stay whole
    planes = normalized_planes(raw, pixels, matrix)
    axes = ["NCHW".index(axis) for axis in image.layout]
    kind = helper.tensor_dtype_to_np_dtype(user.graph.input[0].type.tensor_type.elem_type)
    images = planes.transpose(axes)
    images = (np.rint(images) if kind.kind in "iu" else images).astype(kind)
    theirs, ours = open_model(user), open_model(onnx.load(path))
    wanted = []
    try:
        for start in range(0, PROBE_IMAGES, batch):
            chunk = np.resize(images[start : start + batch], (batch, *images.shape[1:]))
            outputs = theirs.run(None, {image.name: chunk})
            if rows is not None:
                outputs = [outputs[0].reshape(batch, -1)[:, rows]]
            wanted.append([values[: PROBE_IMAGES - start] for values in outputs])
        found = ours.run(None, {INPUT_NAME: raw})
        alone = ours.run(None, {INPUT_NAME: raw[:1]})
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        detail = " ".join(str(error).split())
        raise GraphError(f"cannot be run on images, one or many at once: {detail}") from error
    expected = [np.concatenate(parts) for parts in zip(*wanted, strict=True)]
    return largest_difference([*found, *alone], [*expected, *(values[:1] for values in expected)])


def normalized_planes(
    raw: NDArray[np.uint8], pixels: Normalization, matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ``[N, channels, H, W]`` as a file takes it of raw pixels ``[N, H, W, 3]``."""
    rgb = (raw * pixels.scale - np.array(pixels.mean)) / np.array(pixels.std)
    planes: NDArray[np.float64] = np.einsum("nhwc,fc->nfhw", rgb, matrix)
    return planes
