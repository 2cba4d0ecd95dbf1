"""From the options of a build to the reference of its network, tried on a blank image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporter.config import TrainConfig
from exporter.contract import InputContract
from exporter.errors import ConfigError, ModelError
from exporter.models import MODELS, find_model
from exporter.models.arguments import parse_arguments
from exporter.models.family import ModelRef, build_model, reference
from exporter.models.foreign import class_argument, find_foreign, is_foreign

FOREIGN_LEARNING_RATE = 0.12
"""Peak learning rate of a network that nobody tuned, half of what suits own ones. Half of it again
is the rate of recovery from pruning. Muon moves a kernel by an orthogonal matrix of that norm,
however small the gradient, so that trained weights could be forgotten; on the digits (weights
trained by SGD, three seeds, 30 and 60 % removed, 1 to 16 epochs) 0.06 to 0.12 did well in all, 0.24
ruined short runs, and 0.01 was too slow."""
BARE_LEARNING_RATE = 0.02
"""The same without batch-norms or the like, which make good a step that was too large: SqueezeNet
learns the digits with 0.02, and not with 0.06."""
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def check_model(config: TrainConfig) -> None:
    """Raise ConfigError or ModelError where ``config`` asks for a network that cannot be had."""
    if is_foreign(config.model):
        _foreign(config)
    else:
        _own_widths(config)


def choose_model(config: TrainConfig, contract: InputContract) -> ModelRef:
    """Return the reference of the network that ``config`` names, for the data of ``contract``.

    Raises:
        ConfigError: options contradict the kind of network.
        ModelError: there is no such network, or it does not go with the images or the classes.
    """
    if not is_foreign(config.model):
        return reference(find_model(config.model), _own_widths(config), contract)
    ref = _foreign(config)
    with torch.random.fork_rng(devices=[]):
        check_network(build_model(ref, contract), ref, contract)
    return ref


def usual_learning_rate(model: ModelRef, module: nn.Module) -> float:
    """Return the peak learning rate that suits ``module``, the network of ``model``."""
    if model.name in MODELS:
        return MODELS[model.name].learning_rate
    has_norms = any(isinstance(layer, NORMS) for layer in module.modules())
    return FOREIGN_LEARNING_RATE if has_norms else BARE_LEARNING_RATE


def parse_widths(text: str) -> tuple[int, ...]:
    """Return the widths in ``"32,128,128"``; empty text means the model's own."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ConfigError(
            f"--widths takes whole numbers separated by commas, not {text!r}."
        ) from None


def check_network(module: nn.Module, ref: ModelRef, contract: InputContract) -> None:
    """Raise ModelError unless ``module`` turns two images into logits, in training mode too.

    Batch-norms see the blank images: the module should be thrown away.
    """
    size = f"{contract.height}x{contract.width}"
    blank = torch.zeros(2, contract.channels, contract.height, contract.width)
    for training in (False, True):
        module.train(training)
        try:
            with torch.no_grad():
                logits = module(blank)
        except Exception as error:  # a user's network may raise anything
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"{ref.name} does not take images of {size} pixels: {reason.rstrip('.!')}. "
                "Try a larger --size, such as 64x64 or 224x224."
            ) from error
        mode = " in training mode" if training else ""
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ModelError(
                f"{ref.name} returns {found}{mode}, but must return logits [images, classes]: only "
                "classifiers can be built. Turn auxiliary outputs off, if it has some."
            )
        _check_classes(logits.shape[1], ref, contract)


def _check_classes(outputs: int, ref: ModelRef, contract: InputContract) -> None:
    if outputs == len(contract.classes):
        return
    argument = class_argument(ref)
    if argument is None:
        advice = "Its factory takes no num_classes: add it, or state the number by a --model-arg."
    elif argument in parse_arguments(ref.arguments):
        advice = f"Leave out --model-arg {argument}, or use the data it is made for."
    else:
        advice = f"Its factory was called with {argument}={len(contract.classes)}."
    raise ModelError(
        f"{ref.name} has {outputs} outputs, but the data has {len(contract.classes)} classes. "
        f"{advice}"
    )


def _foreign(config: TrainConfig) -> ModelRef:
    if config.widths:
        raise ConfigError(
            f"--widths is for the networks of `exporter models`, not for {config.model}. "
            "Use --model-arg."
        )
    return find_foreign(config.model, config.model_arg)


def _own_widths(config: TrainConfig) -> tuple[int, ...]:
    find_model(config.model)
    if config.model_arg:
        raise ConfigError(
            f"--model-arg is for a network of torchvision's or your own, but --model is "
            f"{config.model}. Use --widths."
        )
    return parse_widths(config.widths)
