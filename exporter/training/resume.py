"""The state of a training run after its last whole epoch, so that a killed run can continue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor, nn

from exporter.training.optimizer import KernelAndRest

STATE = "state.safetensors"
STORY = "story.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """What one pass over the training images achieved."""

    loss: float
    validation_top1: float
    """Percent, of the averaged weights."""


class Resume:
    """The state after the last whole epoch, in two files that are replaced together."""

    def __init__(
        self,
        folder: Path | None,
        modules: Mapping[str, nn.Module],
        optimizer: KernelAndRest,
    ) -> None:
        self._folder = folder
        self._modules = modules
        self._optimizer = optimizer
        self.planned = 0
        """Epochs that the time budget was found to pay for; 0 where epochs were asked for."""

    def load(self) -> list[Epoch]:
        """Restore the state if there is any; return the epochs it has behind it."""
        newest = self._newest()
        if newest is None:
            return []
        story = json.loads((newest / STORY).read_text())
        tensors = load_file(newest / STATE)
        for prefix, module in self._modules.items():
            module.load_state_dict(_below(prefix, tensors))
        self._optimizer.load_state(_below("optimizer", tensors).items())
        self.planned = story["planned"]
        return [Epoch(**entry) for entry in story["epochs"]]

    def save(self, done: list[Epoch]) -> None:
        """Keep the state after an epoch; the folder's rename makes it valid as a whole."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        older = self._newest()
        fresh = self._folder / f"epoch-{len(done):06d}"
        draft = self._folder / "draft"
        draft.mkdir(exist_ok=True)
        tensors = {f"optimizer.{name}": value for name, value in self._optimizer.state().items()}
        for prefix, module in self._modules.items():
            tensors |= {f"{prefix}.{name}": v for name, v in module.state_dict().items()}
        content = save({name: v.clone().contiguous() for name, v in tensors.items()})
        (draft / STATE).write_bytes(content)  # on a full disk save_file raises no OSError
        story = {
            "planned": self.planned,
            "epochs": [
                {"loss": entry.loss, "validation_top1": entry.validation_top1} for entry in done
            ],
        }
        (draft / STORY).write_text(json.dumps(story))
        draft.replace(fresh)
        if older is not None:
            for file in older.iterdir():
                file.unlink()
            older.rmdir()

    def _newest(self) -> Path | None:
        if self._folder is None:
            return None
        whole = sorted(entry for entry in self._folder.glob("epoch-*") if (entry / STORY).is_file())
        return whole[-1] if whole else None


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{prefix}."): value
        for name, value in tensors.items()
        if name.startswith(f"{prefix}.")
    }
