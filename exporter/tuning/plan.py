"""What a pruned network will cost, before it is trained.

Its widths are those of a network cut evenly to the same multiply-adds; its time comes from the
table of layer times, its bytes from the weights' number. That is enough to leave out what could
never keep a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from exporter.contract import InputContract
from exporter.pruning.allocation import Allocation
from exporter.pruning.budget import cut, widest_within
from exporter.pruning.cost import Cost, count_macs
from exporter.pruning.file_size import file_size_between
from exporter.pruning.group import Group
from exporter.pruning.groups import find_coupling
from exporter.pruning.layer_times import estimate_ms
from exporter.pruning.threshold import rounded_width, width_multiple
from exporter.targets import Target

SLACK = 1.25
"""An estimate has to pass a limit by this factor before it counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What the int8 file of a network will be like."""

    ms: float
    kb: float


@dataclass(kw_only=True)
class Planner:
    """Estimates for the pruned forms of one dense network."""

    dense: nn.Module
    contract: InputContract
    target: Target
    cache: Path
    """Folder with the table of layer times."""

    @cached_property
    def _groups(self) -> tuple[Group, ...]:
        return find_coupling(self.dense, self.contract).groups

    @cached_property
    def _multiples(self) -> dict[str, int]:
        return {
            group.name: width_multiple(group, self.target.channel_multiple)
            for group in self._groups
        }

    @cached_property
    def _bytes(self) -> Cost:
        narrowest = {
            group.name: rounded_width(0, group.width, self._multiples[group.name])
            for group in self._groups
        }
        smallest = cut(self.dense, self._groups, narrowest)
        return file_size_between(self.dense, smallest, self.contract, self.target)

    def expected(self, max_macs: int) -> Expected:
        """Return the cost of the network that keeps at most ``max_macs``; 0 keeps it whole.

        Raises:
            ConfigError: so few cannot be reached.
            ExporterError: the network cannot be exported or quantized.
        """
        network = self._cut_to(max_macs) if max_macs else self.dense
        return Expected(
            ms=estimate_ms(network, self.contract, self.target, folder=self.cache),
            kb=self._bytes(network) / 1000,
        )

    def _cut_to(self, max_macs: int) -> nn.Module:
        even = Allocation(
            scores={group.name: torch.ones(group.width) for group in self._groups},
            removed={group.name: 0 for group in self._groups},
            scope="layer",
            comparable=False,
            multiples=self._multiples,
            curves={},
        )
        _, widths = widest_within(
            ("max_macs", max_macs),
            even,
            self.dense,
            self._groups,
            lambda network: count_macs(network, self.contract),
        )
        return cut(self.dense, self._groups, widths)
