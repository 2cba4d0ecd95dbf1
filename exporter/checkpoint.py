"""A trained network on disk: a reference, the kept channels of every group, and the weights.

Never a pickle. Loading builds the network anew, shrinks it to the kept channels and loads the
weights from safetensors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from exporter.artifacts import Artifact
from exporter.errors import ModelError
from exporter.models.family import ModelRef, build_model
from exporter.pruning.groups import find_groups
from exporter.pruning.shrink import shrink_groups


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A network that can be rebuilt."""

    model: ModelRef
    kept: Mapping[str, tuple[int, ...]]
    """Channels that remain, by group, as indices into the network as ``model`` builds it."""
    weights: Artifact


def save_checkpoint(
    path: Path, module: nn.Module, model: ModelRef, kept: Mapping[str, tuple[int, ...]]
) -> Checkpoint:
    """Write the weights of ``module`` to ``path`` (safetensors) and return the checkpoint."""
    tensors = {name: value.detach().contiguous() for name, value in module.state_dict().items()}
    save_file(tensors, path)
    return Checkpoint(model=model, kept=kept, weights=Artifact.of(path))


def restore(checkpoint: Checkpoint) -> nn.Module:
    """Return the network in eval mode; raises ModelError if the weights don't fit it."""
    module = build_model(checkpoint.model).eval()
    if checkpoint.kept:
        groups = find_groups(module, checkpoint.model)
        shrink_groups(module, groups, checkpoint.kept)
    path = checkpoint.weights.path
    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"Cannot read the weights {path}: {error}.") from error
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise ModelError(f"{path} does not fit {checkpoint.model.name}: {detail}") from error
    return module


def shrunk(
    checkpoint: Checkpoint, weights: Artifact, kept: Mapping[str, tuple[int, ...]]
) -> Checkpoint:
    """Return the checkpoint with other weights and channels."""
    return dataclasses.replace(checkpoint, weights=weights, kept=kept)
