"""A trained network on disk: a reference, the kept channels of every group, and the weights.

Never a pickle. Loading builds the network anew, shrinks it to the kept channels and loads the
weights from safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from exporter.artifacts import Artifact
from exporter.contract import InputContract
from exporter.errors import ModelError
from exporter.models.family import ModelRef, build_model
from exporter.pruning.groups import find_groups
from exporter.pruning.shrink import shrink_groups

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A network that can be rebuilt."""

    model: ModelRef
    contract: InputContract
    """What its pixels and its outputs mean; weights are worthless without it."""
    kept: Mapping[str, tuple[int, ...]]
    """Channels that remain, by group, as indices into the network as ``model`` builds it."""
    weights: Artifact


def save_checkpoint(
    folder: Path,
    module: nn.Module,
    model: ModelRef,
    contract: InputContract,
    kept: Mapping[str, tuple[int, ...]],
) -> Checkpoint:
    """Write the weights of ``module`` into ``folder`` and return the checkpoint."""
    # Cloned: layers may share a tensor, which safetensors refuses to store twice.
    tensors = {
        name: value.detach().clone().contiguous() for name, value in module.state_dict().items()
    }
    (folder / WEIGHTS).write_bytes(save(tensors))  # on a full disk save_file raises no OSError
    return Checkpoint(
        model=model, contract=contract, kept=kept, weights=Artifact.of(folder / WEIGHTS)
    )


def restore(checkpoint: Checkpoint) -> nn.Module:
    """Return the network in eval mode.

    Raises:
        ModelError: the code that makes it is gone or has changed, or the weights don't fit it.
    """
    module = build_model(checkpoint.model, checkpoint.contract).eval()
    if checkpoint.kept:
        groups = find_groups(module, checkpoint.contract)
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
