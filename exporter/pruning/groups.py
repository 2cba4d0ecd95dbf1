"""Which channels belong together: a channel leaves every layer it is tied to, or none.

What hangs together is read from torch-pruning's graph (``dependencies``); every group is then
proven on a copy of the network with random weights (``proof``). What cannot be tied safely is left
alone with a reason, so that any network may come.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from exporter.contract import InputContract
from exporter.pruning.dependencies import OUTPUT, Dependencies, Reached
from exporter.pruning.group import Fixed, Group, Tied, TiedParameter
from exporter.pruning.proof import disproved

__all__ = ["Coupling", "Fixed", "Group", "Tied", "TiedParameter", "find_coupling", "find_groups"]

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d)


@dataclass(frozen=True, kw_only=True, slots=True)
class Coupling:
    """All channels of a network, in its order."""

    groups: tuple[Group, ...]
    fixed: tuple[Fixed, ...]


def find_groups(module: nn.Module, contract: InputContract) -> tuple[Group, ...]:
    """Return the prunable groups of ``module`` in the network's order."""
    return find_coupling(module, contract).groups


def find_coupling(module: nn.Module, contract: InputContract) -> Coupling:
    """Return the prunable groups of ``module``, and the channels that are left alone, with reasons.

    Proven of the groups: whichever of their channels are masked, removing them changes nothing.
    The same network gives the same groups; so does one from which channels have been removed.
    """
    twin = copy.deepcopy(module).eval().requires_grad_(True)
    graph = Dependencies(twin, contract)
    names = {layer: name for name, layer in twin.named_modules()}
    trainable = {name for name, weight in module.named_parameters() if weight.requires_grad}
    seen: dict[nn.Module, set[int]] = {layer: set() for layer in names}
    groups: list[Group] = []
    fixed: list[Fixed] = []
    for layer, name in names.items():
        if not isinstance(layer, nn.Conv2d | nn.Linear) or layer not in graph:
            continue
        channels = [place for place in range(len(layer.weight)) if place not in seen[layer]]
        if not channels:
            continue
        reached = graph.reach(layer, channels)
        for found in reached:
            if found.outputs and found.module in seen:
                seen[found.module].update(place for _, place in found.pairs)
        made = _obstacle(reached, names, trainable) or _group(name, reached, names, graph)
        if isinstance(made, str):
            fixed.append(Fixed(layer=name, width=len(channels), reason=made))
        else:
            groups.append(made)
    reasons = disproved(twin, groups, contract)
    fixed += [
        Fixed(layer=group.name, width=group.width * group.step, reason=reasons[group.name])
        for group in groups
        if group.name in reasons
    ]
    order = list(names.values()).index
    return Coupling(
        groups=tuple(group for group in groups if group.name not in reasons),
        fixed=tuple(sorted(fixed, key=lambda entry: order(entry.layer))),
    )


def _obstacle(
    reached: Iterable[Reached], names: Mapping[nn.Module, str], trainable: set[str]
) -> str:
    """Return why these channels cannot be removed as far as the graph can tell, or ""."""
    read = False
    for found in reached:
        layer = found.module
        if found.obstacle:
            return found.obstacle
        if isinstance(layer, nn.Conv2d | nn.Linear):
            read = read or not found.outputs
            if found.outputs and f"{names[layer]}.weight" not in trainable:
                return f"{names[layer]} is frozen"
        elif layer in names and not isinstance(layer, (*NORMS, nn.PReLU)):
            return f"{type(layer).__name__} is not taken apart"
    return "" if read else OUTPUT


def _group(
    name: str, reached: Sequence[Reached], names: Mapping[nn.Module, str], graph: Dependencies
) -> Group | str:
    """Return the group of what was reached, or why it is none."""
    unit_of = _united(reached)
    width = 1 + max(unit_of.values())
    producers: list[Tied] = []
    norms: list[Tied] = []
    consumers: list[Tied] = []
    parameters: list[TiedParameter] = []
    for found in reached:
        layer = found.module
        if layer not in names and layer not in graph.parameter_names:
            continue  # an operator
        places: list[set[int]] = [set() for _ in range(width)]
        for channel, place in found.pairs:
            places[unit_of[channel]].add(place)
        if len({len(several) for several in places}) > 1:
            return "its layers share only some of them"
        positions = tuple(tuple(sorted(several)) for several in places)
        match layer:
            case nn.Parameter():
                parameters.append(
                    TiedParameter(
                        name=graph.parameter_names[layer],
                        dimension=found.dimension,
                        positions=positions,
                    )
                )
            case nn.PReLU() if layer.num_parameters > 1:
                weight = f"{names[layer]}.weight"
                parameters.append(TiedParameter(name=weight, dimension=0, positions=positions))
            case nn.Conv2d() | nn.Linear():
                side = producers if found.outputs else consumers
                side.append(Tied(layer=names[layer], positions=positions))
            case _ if isinstance(layer, NORMS):
                norms.append(Tied(layer=names[layer], positions=positions))
    order = list(names.values()).index

    def ordered(layers: list[Tied]) -> tuple[Tied, ...]:
        return tuple(sorted(layers, key=lambda tied: order(tied.layer)))

    return Group(
        name=name,
        width=width,
        producers=ordered(producers),
        norms=ordered(norms),
        consumers=ordered(consumers),
        parameters=tuple(sorted(parameters, key=lambda tied: tied.name)),
    )


def _united(reached: Iterable[Reached]) -> dict[int, int]:
    """Return the number of each channel's unit: what comes to the same place leaves together."""
    leader: dict[int, int] = {}

    def leader_of(channel: int) -> int:
        while leader.setdefault(channel, channel) != channel:
            channel = leader[channel]
        return channel

    for found in reached:
        first: dict[int, int] = {}
        for channel, place in sorted(found.pairs):
            same = place % found.part if found.part else place
            pair = leader_of(channel), leader_of(first.setdefault(same, channel))
            leader[max(pair)] = min(pair)
    unit = {lead: number for number, lead in enumerate(sorted(set(map(leader_of, leader))))}
    return {channel: unit[leader_of(channel)] for channel in leader}
