"""Are these groups right? Tried out on a copy of the network with random weights.

Half of each group's channels is masked, then removed. Where a channel was tied to the wrong place,
or where something else looks at how many there are, the two outputs differ. All groups are tried
together; only where that fails they are halved until the wrong ones are alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from exporter.contract import InputContract
from exporter.outputs import largest_difference, named_tensors
from exporter.pruning.dependencies import OUTPUT
from exporter.pruning.group import Group
from exporter.pruning.masks import zero_channels
from exporter.pruning.shrink import shrink_groups

TOLERANCE = 1e-4
"""Largest accepted difference of an output, relative to the largest: float32 sums in another
order give 1e-6, a channel in the wrong place gives 1e-2 and more."""
IMAGES = 2
SEED = 0


def disproved(
    module: nn.Module, groups: Sequence[Group], contract: InputContract
) -> dict[str, str]:
    """Return why channels of a group cannot be removed, by group, for those that fail.

    ``module`` is left as it was; its own weights do not count.
    """
    generator = torch.Generator().manual_seed(SEED)
    pixels = random_pixels(contract, generator)
    kept = {
        group.name: torch.randperm(group.width, generator=generator)[
            : (group.width + 1) // 2
        ].tolist()
        for group in groups
    }

    def failing(some: Sequence[Group]) -> dict[str, str]:
        # Made anew for every trial: a copy to take copies from would cost memory in vain, as
        # mostly there is one trial.
        reason = _difference(_randomised(module, pixels), some, kept, pixels)
        if not reason:
            return {}
        if len(some) == 1:
            return {some[0].name: reason}
        middle = len(some) // 2
        alone = failing(some[:middle]) | failing(some[middle:])
        return alone or {group.name: reason for group in some}  # right alone, wrong together

    reasons: dict[str, str] = {}
    while found := failing([group for group in groups if group.name not in reasons]):
        reasons |= found
    return reasons


def random_pixels(contract: InputContract, generator: torch.Generator | None = None) -> Tensor:
    """Return ``float [2, C, H, W]`` as different as can be; the same ones without a generator."""
    shape = (IMAGES, contract.channels, contract.height, contract.width)
    return torch.randn(shape, generator=generator or torch.Generator().manual_seed(SEED))


@torch.no_grad()
def _randomised(module: nn.Module, pixels: Tensor) -> nn.Module:
    """Return a copy with weights that let every channel matter, in eval mode.

    Batch-norms take their statistics from ``pixels``, so that signals neither fade nor explode on
    their way through many layers.
    """
    generator = torch.Generator().manual_seed(SEED)
    twin = copy.deepcopy(module).eval()
    for parameter in twin.parameters():
        fan_in = parameter.numel() // len(parameter) if parameter.ndim else 1
        limit = (6 / fan_in) ** 0.5
        parameter.uniform_(-limit, limit, generator=generator)
    norms = [layer for layer in twin.modules() if isinstance(layer, _BatchNorm)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    twin(pixels)
    return twin.eval()


@torch.no_grad()
def _difference(
    module: nn.Module, groups: Sequence[Group], kept: Mapping[str, Sequence[int]], pixels: Tensor
) -> str:
    """Silence channels of ``module``, then remove them; return how the two differ, or ""."""
    try:
        zero_channels(module, groups, kept)
        masked = module(pixels)
        shrink_groups(module, groups, kept)
        small = module(pixels)
    except Exception as error:  # it is somebody's code, in shapes it was not written for
        return f"the network does not run without them: {_line(error)}"
    if _shapes(small) != _shapes(masked):
        return OUTPUT
    stray = largest_difference(small, masked)
    if not stray <= TOLERANCE:
        return f"without them the outputs differ by {stray:.1g} from those with zeros"
    return ""


def _shapes(output: object) -> list[torch.Size]:
    return [tensor.shape for tensor in named_tensors(output).values()]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
