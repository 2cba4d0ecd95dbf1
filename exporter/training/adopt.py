"""The stage that takes weights which somebody else trained for the dense network."""

from __future__ import annotations

from pathlib import Path

from exporter.artifacts import Artifact
from exporter.checkpoint import save_checkpoint
from exporter.config import TrainConfig
from exporter.data.splits import Splits
from exporter.models.choose import usual_learning_rate
from exporter.models.family import ModelRef, build_model
from exporter.models.weights import load_weights
from exporter.normalization import stated_normalization
from exporter.training.loop import History, device_for_training, evaluate
from exporter.training.preprocessing import try_normalizations
from exporter.training.train import Trained, lesson_of

VERSION = 1

LABEL_SMOOTHING = 0.0
"""Weights from elsewhere were most likely trained without it; with it they would first of all
unlearn how sure they are."""


def adopt(
    out: Path, config: TrainConfig, data: Splits, model: ModelRef, weights: Artifact
) -> Trained:
    """Put the weights in a file into the network ``model``, and try them on validation images.

    Args:
        out: folder for the checkpoint.
        config: what was stated about the pixels, and how the network will be fine-tuned.
        data: the images; their contract holds the stated normalisation.
        model: the network.
        weights: safetensors or a state dict.

    Raises:
        ModelError: the file cannot be read, or its weights don't fit the network.
    """
    module = build_model(model, data.contract).eval()
    load_weights(module, weights.checked(), model)
    module.to(device_for_training())
    top1 = evaluate(module, data.contract, data.validation)
    stated = stated_normalization(config)
    preprocessing = try_normalizations(module, stated, data.contract, data.validation, top1)
    module.to("cpu")
    return Trained(
        checkpoint=save_checkpoint(out, module, model, data.contract, kept={}),
        lesson=lesson_of(
            config,
            data,
            learning_rate=usual_learning_rate(model, module),
            label_smoothing=LABEL_SMOOTHING,
        ),
        history=History(epochs=(), images_per_second=0.0),
        preprocessing=preprocessing,
    )
