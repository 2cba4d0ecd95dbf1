"""The dense network of a build: trained here, or brought along."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from exporter.artifacts import Artifact, Cache
from exporter.config import TrainConfig
from exporter.data.splits import Splits
from exporter.errors import ModelError
from exporter.models.choose import check_model, choose_model
from exporter.normalization import normalized_by, stated_normalization
from exporter.progress import say
from exporter.training.adopt import adopt
from exporter.training.preprocessing import mismatch
from exporter.training.train import Trained, train


def check_dense(config: TrainConfig) -> None:
    """Refuse what can be refused before the images are read: raises what the others below raise."""
    check_model(config)
    stated_normalization(config)
    if config.weights:
        _weights_file(config)


def normalized_data(data: Splits, config: TrainConfig) -> Splits:
    """Return ``data`` with the normalisation that ``config`` states in its contract.

    Raises:
        ConfigError: the normalisation is unknown or contradicts itself.
    """
    contract = normalized_by(data.contract, stated_normalization(config))
    return dataclasses.replace(data, contract=contract)


def dense_network(cache: Cache, config: TrainConfig, data: Splits) -> Trained:
    """Return the network that ``config`` asks for, with ``--weights`` or trained on ``data``.

    Raises:
        ConfigError, ModelError: it cannot be had, or it doesn't go with the images.
    """
    model = choose_model(config, data.contract)
    if not config.weights:
        return cache.run(train, config, data, model)
    trained = cache.run(adopt, config, data, model, Artifact.of(_weights_file(config)))
    if trained.preprocessing is not None:
        # Outside the stage: a warning that a cached result keeps to itself warns nobody.
        say(
            f"Dense network: {trained.validation_top1:.2f} % on validation images, with the "
            "weights as they came."
        )
        for warning in weights_warnings(trained):
            say(warning)
    return trained


def weights_warnings(trained: Trained) -> tuple[str, ...]:
    """Return what looks wrong about weights that were brought along; empty where nothing does."""
    if trained.preprocessing is None:
        return ()
    warning = mismatch(trained.preprocessing, trained.checkpoint.contract.classes)
    return (warning,) if warning else ()


def _weights_file(config: TrainConfig) -> Path:
    path = Path(config.weights).expanduser()
    if not path.is_file():
        raise ModelError(f"--weights is {config.weights}, but there is no such file.")
    return path
