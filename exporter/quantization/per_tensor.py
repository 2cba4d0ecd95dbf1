"""The range method of each tensor by itself, judged by what it does to the outputs of the network.

The methods disagree about how much to clip. The error on the tensor's own histogram cannot settle
that, since one of them minimises just that error; what counts is how far the network's outputs
move. So each activation is rounded alone, in the float network, with the range of every method in
turn, and keeps the range whose outputs are nearest to those without any rounding (least squares,
each output relative to its own power). Labels are not looked at.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from calibration import Range, Ranges
from exporter.contract import INPUT_NAME
from exporter.graph.contract import INPUT_SIDE
from exporter.graph.limits import read_model
from exporter.graph.wiring import Wiring, replace_nodes
from exporter.progress import track

PER_TENSOR = "per-tensor"
"""Its name beside those of the methods."""
IMAGES = 64
"""At most so many calibration images are looked at."""
BATCH = 16
LEVELS = 255
_SCALE, _ZERO_POINT = "rounded_scale", "rounded_zero_point"
_CLIPPED_BEHIND = ("Relu", "Clip")
"""A tensor that these alone read is not rounded itself: what they write is."""
_ERRORS_ONLY = 3


def choose_per_tensor(
    model: Path, by_method: Mapping[str, Ranges], pixels: NDArray[np.uint8]
) -> Ranges:
    """Return for each tensor the range of the method that the outputs suffer least from.

    Tensors that are not rounded themselves keep the range of the first method, as do those for
    which all methods agree.

    Args:
        model: the float file that the ranges were measured on.
        by_method: ranges of several methods; of equals the first wins.
        pixels: images, ``uint8 [N, H, W, C]``.
    """
    graph = read_model(model)
    first = next(iter(by_method.values()))
    batches = [pixels[start : start + BATCH] for start in range(0, min(len(pixels), IMAGES), BATCH)]
    wanted = _outputs(_open(graph), batches, {})
    chosen = dict(first.by_tensor)
    names = rounded_tensors(graph)
    with track("Choosing ranges", total=len(names)) as advance:
        for name in names:
            ranges = dict.fromkeys(found.by_tensor[name] for found in by_method.values())
            usable = [entry for entry in ranges if entry.high > entry.low]
            if len(usable) > 1:
                session = _open(with_rounded(graph, name))
                errors = [
                    _error(_outputs(session, batches, _steps(entry)), wanted) for entry in usable
                ]
                chosen[name] = usable[int(np.argmin(errors))]
            advance(1, name)
    return Ranges(
        model_digest=first.model_digest,
        data_digest=first.data_digest,
        method=PER_TENSOR,
        samples=first.samples,
        by_tensor=chosen,
    )


def rounded_tensors(model: ModelProto) -> list[str]:
    """Return the activations that an int8 file rounds, but for pixels and outputs, in order."""
    wiring = Wiring.of(model.graph)
    found = []
    for name in itertools.chain.from_iterable(node.output for node in model.graph.node):
        readers = wiring.readers.get(name, [])
        inside = name not in INPUT_SIDE and name not in wiring.outputs and readers
        if inside and any(node.op_type not in _CLIPPED_BEHIND for node in readers):
            found.append(name)
    return found


def with_rounded(model: ModelProto, name: str) -> ModelProto:
    """Return ``model`` with one tensor rounded to 8 bits; scale and zero point become inputs."""
    changed = ModelProto()
    changed.CopyFrom(model)
    bytes_, floats = f"{name}_bytes", f"{name}_rounded"
    steps = [_SCALE, _ZERO_POINT]
    nodes = []
    for node in changed.graph.node:
        node.input[:] = [floats if source == name else source for source in node.input]
        nodes.append(node)
        if name in node.output:
            nodes.append(helper.make_node("QuantizeLinear", [name, *steps], [bytes_]))
            nodes.append(helper.make_node("DequantizeLinear", [bytes_, *steps], [floats]))
    replace_nodes(changed, nodes)
    kinds = TensorProto.FLOAT, TensorProto.UINT8
    changed.graph.input.extend(
        helper.make_tensor_value_info(step, kind, [])
        for step, kind in zip(steps, kinds, strict=True)
    )
    return changed


def _steps(found: Range) -> dict[str, NDArray[np.generic]]:
    """Return scale and zero point of a range, as ONNX Runtime computes them."""
    scale = np.array((found.high - found.low) / LEVELS, np.float32)
    return {_SCALE: scale, _ZERO_POINT: np.array(np.rint(-found.low / scale), np.uint8)}


def _open(model: ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _outputs(
    session: ort.InferenceSession,
    batches: Sequence[NDArray[np.uint8]],
    steps: Mapping[str, NDArray[np.generic]],
) -> list[NDArray[np.float64]]:
    runs = [session.run(None, {INPUT_NAME: batch, **steps}) for batch in batches]
    return [np.concatenate(parts).astype(np.float64) for parts in zip(*runs, strict=True)]


def _error(found: Sequence[NDArray[np.float64]], wanted: Sequence[NDArray[np.float64]]) -> float:
    """Return the sum over the outputs of the change's power over the output's own."""
    return sum(
        float(np.square(y - x).sum() / max(np.square(x).sum(), np.finfo(np.float64).tiny))
        for y, x in zip(found, wanted, strict=True)
    )
