"""Stage: the weights and activation scales of an int8 file are fine-tuned as they will be rounded.

What comes out is a float model and its ranges again, to be quantized on the usual way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from calibration import Range, Ranges
from exporter.artifacts import RESUME, Artifact, Cache
from exporter.data.splits import Splits
from exporter.graph.canonical import save_model
from exporter.graph.limits import read_model
from exporter.graph.metadata import read_tools, write_metadata
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.progress import say
from exporter.quantization.aware.float_network import FloatNetwork
from exporter.quantization.aware.simulation import Simulation
from exporter.quantization.calibrate import Calibrated
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.targets import Target
from exporter.training.loop import History, Lesson, fit

VERSION = 1

LEARNING_RATE = 0.0075
"""Peak rate, of which AdamW takes a share (``exporter.training.optimizer``): weights that are
trained already move by less than 1 % of their size in a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundingLearned:
    """A float model whose weights have learned to be rounded."""

    model: OnnxModel
    ranges: Artifact
    """A file of ``calibration.Ranges`` with the learned scales, for this model."""
    history: History = field(compare=False)


def rounding_lesson(lesson: Lesson, epochs: int) -> Lesson:
    """Return the recipe of quantization-aware fine-tuning, from that of training.

    The float network is the only teacher, its opinion taken as it is: what is to be learned is to
    answer as before in spite of rounding, and with a temperature of 5 students of low precision
    have been seen to collapse (IntelLabs' distiller, quantization-aware distillation of ResNet-20).
    """
    return dataclasses.replace(
        lesson,
        epochs=epochs,
        minutes=0.0,
        learning_rate=LEARNING_RATE,
        seed=lesson.seed + 1,
        distill=1.0,
        temperature=1.0,
    )


def with_learned_rounding(
    cache: Cache,
    lesson: Lesson,
    target: Target,
    model: OnnxModel,
    ranges: Calibrated,
    int8: QuantizedModel,
    data: Splits,
) -> tuple[OnnxModel, Calibrated, QuantizedModel]:
    """Return all three anew after ``learn_rounding``; ``int8`` was made with the best ranges."""
    method = int8.method
    learned = cache.run(learn_rounding, lesson, model, int8, ranges.by_method[method], data)
    own = dataclasses.replace(ranges, by_method={method: learned.ranges})
    floats = (int8.float_layers,) if int8.float_layers else ()
    after = cache.run(quantize, target, learned.model, learned.ranges, method, *floats)
    best = max(entry.validation_top1 for entry in learned.history.epochs)
    say(f"Once its weights have learned to be rounded: {best:.2f} % on validation images.")
    return learned.model, own, after


def learn_rounding(
    out: Path,
    lesson: Lesson,
    model: OnnxModel,
    int8: QuantizedModel,
    ranges: Artifact,
    data: Splits,
) -> RoundingLearned:
    """Fine-tune ``model`` as ``int8`` rounds it; write ``model.onnx`` and ``ranges.json``.

    Gradients go to the float weights behind the rounded ones (Jacob et al. 2018, arXiv 1712.05877,
    section 3) and to the scales of activations (Esser et al. 2020, arXiv 1902.08153).

    Args:
        out: folder of the result.
        lesson: epochs, rate and augmentation.
        model: the float model.
        int8: what ``quantize`` made of it with ``ranges``.
        ranges: a file of ``calibration.Ranges``.
        data: training images teach, validation images choose the epoch.

    Raises:
        GraphError: the graph has an operator that cannot be followed.
    """
    known = Ranges.from_json(ranges.checked().read_text())
    floating = read_model(model.file.checked())
    simulation = Simulation(
        read_model(int8.file.checked()),
        floating,
        model.contract,
        seven_bit=frozenset(int8.seven_bit_layers),
        ranges={name: (entry.low, entry.high) for name, entry in known.by_tensor.items()},
    )
    history = fit(
        simulation,
        lesson,
        model.contract,
        data.train,
        data.validation,
        title="Learning to be rounded",
        teacher=FloatNetwork(floating),
        keep_best=True,
        resume=out / RESUME,
    )
    learned = _write(out / "model.onnx", model, simulation.learned_weights())
    own = dataclasses.replace(
        known,
        model_digest=learned.file.sha256,
        by_tensor={
            **known.by_tensor,
            **{
                name: Range(low=low, high=high)
                for name, (low, high) in simulation.learned_ranges().items()
            },
        },
    )
    path = out / "ranges.json"
    path.write_text(own.to_json())
    return RoundingLearned(model=learned, ranges=Artifact.of(path), history=history)


def _write(path: Path, model: OnnxModel, weights: Mapping[str, NDArray[np.float32]]) -> OnnxModel:
    """Write ``model`` with other weights and biases."""
    graph = read_model(model.file.path)
    for tensor in graph.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    tools = read_tools(graph)
    write_metadata(graph, model.contract, tools=tools, digests={"float_model": model.file.sha256})
    save_model(graph, path)
    return read_onnx_model(path)
