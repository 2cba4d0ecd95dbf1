"""What a network loses when channels go, layer by layer, over all groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from exporter.pruning.group import Group, Tied, TiedParameter

Kept = Mapping[str, Sequence[int]]
"""Per group, by its name, the channels that stay."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Removal:
    """Indices that go, by layer or parameter.

    Several groups may have channels in one layer, as behind a concatenation; their indices count
    from the layer as it is before anything is removed.
    """

    outputs: Mapping[str, set[int]]
    norms: Mapping[str, set[int]]
    inputs: Mapping[str, set[int]]
    parameters: Mapping[tuple[str, int], set[int]]
    """By name and dimension."""


def removal_of(groups: Iterable[Group], kept: Kept) -> Removal:
    """Return all that goes where each group keeps only the channels in ``kept``."""
    outputs: dict[str, set[int]] = {}
    norms: dict[str, set[int]] = {}
    inputs: dict[str, set[int]] = {}
    parameters: dict[tuple[str, int], set[int]] = {}
    for group in groups:
        gone = sorted(set(range(group.width)) - set(kept[group.name]))
        if not gone:
            continue
        for into, layers in (
            (outputs, group.producers),
            (norms, group.norms),
            (inputs, group.consumers),
        ):
            for tied in layers:
                into.setdefault(tied.layer, set()).update(_places(tied, gone))
        for parameter in group.parameters:
            key = parameter.name, parameter.dimension
            parameters.setdefault(key, set()).update(_places(parameter, gone))
    return Removal(outputs=outputs, norms=norms, inputs=inputs, parameters=parameters)


def _places(tied: Tied | TiedParameter, channels: Iterable[int]) -> Iterator[int]:
    return (place for channel in channels for place in tied.positions[channel])


def by_part(weight: Tensor, layer: nn.Module) -> Tensor:
    """Return a view ``[parts, out / parts, in / parts, ...]`` of a layer's weights.

    The parts are the groups of a grouped convolution; any other layer is one. Input i belongs to
    part ``i // (in / parts)``, and is ``i % (in / parts)`` there.
    """
    view: Tensor = weight.unflatten(0, (layer.groups if isinstance(layer, nn.Conv2d) else 1, -1))
    return view
