"""The widest network that meets a budget.

An allocation maps a share to widths, and a network's cost falls as the share rises, so bisection
finds the smallest share that meets the budget. Only shapes matter to a cost: what is measured is
the network cut to those widths, whichever channels it will keep.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

from torch import nn

from exporter.contract import InputContract
from exporter.errors import ConfigError
from exporter.pruning.allocation import Allocation, smallest
from exporter.pruning.cost import Cost, Device, count_macs, count_parameters
from exporter.pruning.file_size import file_size_between
from exporter.pruning.group import Group
from exporter.pruning.layer_times import estimate_ms
from exporter.pruning.shrink import shrink_groups
from exporter.pruning.threshold import rounded_width, width_multiple

HALVINGS = 16
"""Steps of the bisection; they tell apart the shares of a network with up to 65,536 channels."""
MARGIN = {"max_parameters": 0.0, "max_macs": 0.0, "max_kb": 0.002, "max_ms": 0.03}
"""Share of a budget that is left free, where the cost is an estimate: about as much as it has been
seen to fall short of the finished file."""
UNITS = {
    "max_parameters": "parameters",
    "max_macs": "multiply-accumulates",
    "max_kb": "kB",
    "max_ms": "ms",
}


def cost_function(
    budget: str,
    module: nn.Module,
    groups: tuple[Group, ...],
    contract: InputContract,
    channel_multiple: int,
    device: Device | None,
) -> Cost:
    """Return what tells the cost of a pruned ``module``, in the unit of ``budget``.

    Args:
        budget: a field of ``PruneConfig``: max_parameters, max_macs, max_kb or max_ms.
        module: the network before pruning.
        groups: its prunable channels.
        contract: the input side of the file.
        channel_multiple: what widths are rounded to.
        device: where the file will run, for max_kb and max_ms.

    Raises:
        ExporterError: the network cannot be exported or quantized (max_kb, max_ms).
    """
    if budget == "max_parameters":
        return count_parameters
    if budget == "max_macs":
        return lambda network: count_macs(network, contract)
    assert device is not None
    target = device.target
    if budget == "max_ms":
        return lambda network: estimate_ms(network, contract, target, folder=device.times)
    narrowest = {
        group.name: rounded_width(0, group.width, width_multiple(group, channel_multiple))
        for group in groups
    }
    size = file_size_between(module, cut(module, groups, narrowest), contract, target)
    return lambda network: size(network) / 1000


def widest_within(
    budget: tuple[str, float],
    allocation: Allocation,
    module: nn.Module,
    groups: tuple[Group, ...],
    cost: Cost,
) -> tuple[float, dict[str, int]]:
    """Return the smallest share at which ``module`` is within ``budget``, and the widths for it.

    Several groups may fall by a multiple at the same share, which can leave room in the budget.
    Groups then get one multiple back where it fits, those first that rounding took most from.

    Raises:
        ConfigError: no share is enough; the message names the smallest cost that can be reached.
    """
    name, limit = budget
    allowed = limit * (1 - MARGIN[name])
    known: dict[tuple[int, ...], float] = {}

    def cost_of(widths: Mapping[str, int]) -> float:
        key = tuple(widths.values())
        if key not in known:
            known[key] = cost(cut(module, groups, widths))
        return known[key]

    fewest = cost_of(allocation.widths(1.0))
    if fewest > allowed:
        raise ConfigError(
            f"--{name.replace('_', '-')} {limit:g} cannot be reached: with the fewest channels "
            f"the network still has {_rounded_up(fewest / (1 - MARGIN[name]))} {UNITS[name]}. "
            "Allow that much, or train a smaller network (--widths)."
        )
    share = smallest(
        lambda share: cost_of(allocation.widths(share)) <= allowed, highest=1.0, halvings=HALVINGS
    )
    widths, counts = allocation.widths(share), allocation.counts(share)
    for group in sorted(groups, key=lambda group: widths[group.name] - counts[group.name]):
        width = widths[group.name] + allocation.multiples[group.name]
        wider = {**widths, group.name: min(width, group.width)}
        if cost_of(wider) <= allowed:
            widths = wider
    return share, widths


def cut(module: nn.Module, groups: tuple[Group, ...], widths: Mapping[str, int]) -> nn.Module:
    """Return a copy of ``module`` with only the first channels of each group, as many as told."""
    small = copy.deepcopy(module)
    shrink_groups(small, groups, {name: tuple(range(width)) for name, width in widths.items()})
    return small


def _rounded_up(value: float) -> str:
    """Return a number that a user can pass on as the limit: rounded to four digits, upwards."""
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return f"{math.ceil(round(value / step, 6)) * step:.10g}"
