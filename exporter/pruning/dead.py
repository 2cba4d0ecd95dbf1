"""Channels that say nothing: their removal changes no output, so it comes before all pruning.

A channel is dead where every layer that reads it reads a constant. That is proven from the weights
and the range of pixels (``bounds``), for every image there can be, and confirmed on the calibration
images. A constant other than 0 must be one that its readers can take into their bias, which zero
padding forbids: at the border they read fewer copies of it.

    dead = find_dead(module, groups, contract, batches)
    fold_constants(module, groups, dead, contract)

After that nothing reads the dead channels, and masking and shrinking them is exact.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from exporter.contract import InputContract
from exporter.pruning.bounds import Flow, trace_bounds
from exporter.pruning.evidence import Batches, Layer, weighted_layers
from exporter.pruning.group import Group
from exporter.pruning.interval import Bounds
from exporter.pruning.layout import by_weight, rows

TOLERANCE = 1e-5
"""How far float32 may stray from a constant worked out in float64, relative to 1 or the constant if
that is larger."""


def find_dead(
    module: nn.Module, groups: Sequence[Group], contract: InputContract, batches: Batches
) -> dict[str, tuple[int, ...]]:
    """Return the dead channels of every group, at most all but one.

    Args:
        module: left as it was.
        groups: its prunable channels.
        contract: the range of the pixels.
        batches: calibration images; read once, and not at all where nothing is provably dead.
    """
    flow = trace_bounds(module, contract)
    layers = weighted_layers(module)
    proven = {group.name: _proven(group, flow, layers) for group in groups}
    if not any(bool(channels.any()) for channels in proven.values()):
        return {group.name: () for group in groups}
    seen = _observed(module, {tied.layer for group in groups for tied in group.consumers}, batches)
    dead = {}
    for group in groups:
        confirmed = proven[group.name]
        for tied in group.consumers:
            constant = flow.reads[tied.layer].low
            strays = torch.maximum(
                (seen[tied.layer].low - constant).abs(), (seen[tied.layer].high - constant).abs()
            )
            steady = strays <= TOLERANCE * constant.abs().clamp(min=1)
            confirmed = confirmed & (rows(steady, tied.positions) == 1).all(1)
        channels = confirmed.nonzero().flatten().tolist()
        # A layer without channels is no layer: the first one stays.
        dead[group.name] = tuple(channels[1:] if len(channels) == group.width else channels)
    return dead


@torch.no_grad()
def fold_constants(
    module: nn.Module,
    groups: Sequence[Group],
    dead: Mapping[str, Sequence[int]],
    contract: InputContract,
) -> None:
    """Take what dead channels contribute into the bias of those who read them, in place.

    A layer without a bias is followed by a batch-norm, whose mean takes it. The weights that read
    dead channels become zero. The outputs are the same up to rounding.
    """
    flow = trace_bounds(module, contract)
    layers = weighted_layers(module)
    constants: dict[str, Tensor] = {}
    for group in groups:
        for tied in group.consumers:
            places = [place for channel in dead[group.name] for place in tied.positions[channel]]
            values = constants.setdefault(
                tied.layer, torch.full_like(flow.reads[tied.layer].low, torch.nan)
            )
            values[places] = flow.reads[tied.layer].low[places]
    for name, values in constants.items():
        gone = ~values.isnan()
        if not bool(gone.any()):
            continue
        layer = layers[name]
        told = layer.weight.double() * by_weight(values.nan_to_num(nan=0.0), layer)
        shift = told.flatten(1).sum(1)
        layer.weight.masked_fill_(by_weight(gone, layer), 0)
        if layer.bias is not None:
            layer.bias.add_(shift)
        elif bool(shift.any()):
            module.get_buffer(f"{flow.norm_after[name]}.running_mean").sub_(shift)


def _proven(group: Group, flow: Flow, layers: Mapping[str, Layer]) -> Tensor:
    """Booleans ``[C]``: which channels are constants that all their readers can do without."""
    dead = torch.ones(group.width, dtype=torch.bool)
    for tied in group.consumers:
        bounds = flow.reads[tied.layer]
        removable = bounds.low == bounds.high
        if not _takes_constants(tied.layer, layers[tied.layer], flow):
            removable &= bounds.low == 0
        dead &= (rows(removable, tied.positions) == 1).all(1)
    return dead


def _takes_constants(name: str, layer: Layer, flow: Flow) -> bool:
    """Whether a constant input adds the same to every output, and there is a place to add it."""
    whole = (
        isinstance(layer, nn.Linear)
        or layer.padding_mode != "zeros"  # borders continue the constant
        or layer.padding == "valid"
        or set(layer.padding) == {0}
    )
    return whole and (layer.bias is not None or name in flow.norm_after)


@torch.no_grad()
def _observed(module: nn.Module, names: set[str], batches: Batches) -> dict[str, Bounds]:
    """Return the smallest and the largest value that each input of the layers had."""
    twin = copy.deepcopy(module).eval()
    seen: dict[str, Bounds] = {}

    def watch(name: str, layer: Layer) -> None:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].movedim(1 if isinstance(layer, nn.Conv2d) else -1, 0).flatten(1)
            low, high = values.amin(1).double(), values.amax(1).double()
            if name in seen:
                low = torch.minimum(low, seen[name].low)
                high = torch.maximum(high, seen[name].high)
            seen[name] = Bounds(low=low, high=high)

        layer.register_forward_pre_hook(add)

    for name, layer in weighted_layers(twin).items():
        if name in names:
            watch(name, layer)
    for pixels, _ in batches:
        twin(pixels)
    return seen
