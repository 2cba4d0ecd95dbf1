"""Muon for the kernels of dense convolutions, AdamW for everything else.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) orthogonalises the momentum of
a matrix before it steps. torch's implementation takes matrices only, so each kernel is handed over
as a ``[out, in * kh * kw]`` view of the same memory. Large fully connected layers go to AdamW:
orthogonalising them would cost more than the step itself. So do kernels of depthwise and grouped
convolutions: their filters read different inputs, and orthogonalising would mix them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

ADAMW_SHARE = 0.04
"""AdamW's learning rate as a share of Muon's."""
USUAL_FAN_IN = 128
"""AdamW moves every weight by about its learning rate, whatever the gradient, but a weight starts
at about ``1 / sqrt(fan_in)``: layers with more inputs than this get a smaller share."""
MUON_DECAY = 0.015
"""Decoupled weight decay of the kernels, times the learning rate in each step."""


class KernelAndRest:
    """One learning rate, two optimizers."""

    def __init__(self, module: nn.Module) -> None:
        learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
        dense = {
            id(layer.weight)
            for layer in module.modules()
            if isinstance(layer, nn.Conv2d) and layer.groups == 1
        }
        self._kernels = [parameter for parameter in learned if id(parameter) in dense]
        self._views = [nn.Parameter(_as_matrix(kernel.data)) for kernel in self._kernels]
        groups = [
            {"params": [parameter], "share": _adamw_share(parameter)}
            for parameter in learned
            if id(parameter) not in dense
        ]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95))
        ]
        if self._views:
            self._parts.append(
                torch.optim.Muon(
                    [{"params": self._views, "share": 1.0}],
                    lr=0.0,
                    momentum=0.6,
                    weight_decay=MUON_DECAY,
                    ns_steps=3,
                )
            )

    def step(self, learning_rate: float) -> None:
        """Update every parameter from its gradient and clear the gradients."""
        for kernel, view in zip(self._kernels, self._views, strict=True):
            view.grad = None if kernel.grad is None else _as_matrix(kernel.grad)
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate * group["share"]
            part.step()
            part.zero_grad(set_to_none=True)
        for kernel in self._kernels:
            kernel.grad = None

    def state(self) -> dict[str, Tensor]:
        """Return the optimizers' tensors by flat names, for a resume file."""
        return {
            f"{part}.{index}.{name}": value
            for part, optimizer in enumerate(self._parts)
            for index, entry in optimizer.state_dict()["state"].items()
            for name, value in entry.items()
        }

    def load_state(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Restore what ``state`` returned."""
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self._parts]
        for name, value in tensors:
            part, index, key = name.split(".", 2)
            states[int(part)].setdefault(int(index), {})[key] = value
        for optimizer, state in zip(self._parts, states, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _adamw_share(parameter: Tensor) -> float:
    fan_in = parameter.shape[1] if parameter.ndim == 2 else USUAL_FAN_IN
    return ADAMW_SHARE * math.sqrt(USUAL_FAN_IN / fan_in)


def _as_matrix(kernel: Tensor) -> Tensor:
    """A ``[out, -1]`` view; in channels-last memory the columns run over (kh, kw, in)."""
    if kernel.is_contiguous():
        return kernel.flatten(1)
    return kernel.permute(0, 2, 3, 1).flatten(1)
