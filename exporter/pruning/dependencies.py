"""Where a layer's output channels go, and what must leave a network together with them.

The graph is torch-pruning's dependency graph (Fang et al., CVPR 2023, arXiv 2301.12900): a node per
layer, parameter and operator, and between them which removal triggers which. How indices change on
the way, past a concatenation, a split or a flatten, is worked out here from the shapes that
autograd has kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch_pruning as tp
from torch import nn
from torch_pruning import ops

from exporter.contract import InputContract

Node = Any
"""torch-pruning's node; the library has no types."""
Shape = tuple[int, ...]
Pairs = set[tuple[int, int]]
"""(channel of the layer that a walk started from, index at the node that it came to)"""

OUTPUT = "they are an output of the network"

_INFERRED = (
    ops.OPTYPE.CONCAT, ops.OPTYPE.SPLIT, ops.OPTYPE.RESHAPE, ops.OPTYPE.UNBIND, ops.OPTYPE.EXPAND,
    ops.OPTYPE.SLICE,
)  # fmt: skip


class _Graph(tp.DependencyGraph):  # type: ignore[misc]
    """torch-pruning's graph without its guesses at channel counts.

    torch-pruning 1.6.1 infers the channels of operators from the layers around them. Where a half
    of a split goes straight into a concatenation, as in shufflenet, its
    ``infer_in_channels_recursively`` takes the half for the whole; one concatenation earlier the
    other half is subtracted from it, and ``update_reshape_index_mapping`` divides by the 0 that is
    left. Where nothing is marked as such an operator, nothing is inferred.
    """

    def _trace(self, *args: object, **options: object) -> dict[object, Node]:
        nodes: dict[object, Node] = super()._trace(*args, **options)
        for node in nodes.values():
            if node.type in _INFERRED:
                node.type = ops.OPTYPE.ELEMENTWISE
        return nodes


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """A node that loses something where channels are removed."""

    module: Any
    """A layer, a parameter, or one of torch-pruning's stand-ins for an operator."""
    dimension: int
    """Of a parameter: the one that counts channels."""
    outputs: bool
    """Whether a layer loses outputs; else it loses inputs. Most lose both at once."""
    pairs: Pairs
    part: int
    """Indices that leave the same rest, divided by this, go together; 0 where each is free."""
    obstacle: str
    """Why these channels cannot be removed, or ""."""


class Dependencies:
    """The dependency graph of one network."""

    def __init__(self, module: nn.Module, contract: InputContract) -> None:
        """Trace ``module``, in eval mode and with gradients, on one blank image."""
        blank = torch.zeros(
            1, contract.channels, contract.height, contract.width, requires_grad=True
        )
        # A tuple: a bare tensor would first be tried image by image.
        self._graph = _Graph().build_dependency(module, example_inputs=(blank,), verbose=False)
        self.parameter_names: dict[nn.Parameter, str] = self._graph._param_to_name
        self._obstacles: dict[Node, str] = {}
        self._chunks: dict[Node, tuple[int, int]] = {}
        self._nodes = {node.grad_fn: node for node in self._graph.module2node.values()}
        for node in self._nodes.values():
            match node.module:
                case ops._ConcatOp():
                    self._follow_concatenation(node)
                case ops._SplitOp():
                    self._follow_split(node)
                case ops._ReshapeOp():
                    self._follow_reshape(node)
                case ops._SliceOp() if _channel_axis(node.grad_fn) is not None:
                    self._obstacles[node] = "a slice takes them by their place"
                case ops._OutputOp():
                    self._obstacles[node] = OUTPUT
                case ops._UnbindOp():
                    self._obstacles[node] = "they are taken apart one by one"
                case nn.Conv2d() as layer if (
                    layer.groups == layer.out_channels != layer.in_channels
                ):
                    self._obstacles[node] = "a grouped convolution has one output per group"
                case nn.LayerNorm() | nn.GroupNorm():
                    name = type(node.module).__name__
                    self._obstacles[node] = f"{name} takes its mean over them"

    def __contains__(self, layer: nn.Module) -> bool:
        """Return whether the network uses ``layer`` at all."""
        return layer in self._graph.module2node

    def reach(self, layer: nn.Module, channels: Iterable[int]) -> list[Reached]:
        """Return all that must go where output ``channels`` of ``layer`` go, ``layer`` included."""
        start = self._graph.get_pruner_of_module(layer).prune_out_channels
        waiting = [(self._graph.module2node[layer], start, {(place, place) for place in channels})]
        found: dict[tuple[Node, Callable[..., object]], Pairs] = {}
        while waiting:
            node, removal, pairs = waiting.pop()
            known = found.setdefault((node, removal), set())
            new = pairs - known
            total, part = self._part(node, removal)
            if part:
                places = {place for _, place in pairs | known}
                new |= {
                    (channel, other)
                    for channel, place in pairs
                    for other in range(place % part, total, part)
                    if other not in places
                }
            if not new:
                continue
            known |= new
            for dependency in node.dependencies:
                if dependency.is_triggered_by(removal):
                    moved = new
                    for change in dependency.index_mapping:
                        if change is not None:
                            moved = {(c, place) for c, index in moved for place in change(index)}
                    waiting.append((dependency.target, dependency.handler, moved))
        return [
            Reached(
                module=node.module,
                dimension=node.pruning_dim,
                outputs=self._graph.is_out_channel_pruning_fn(removal),
                pairs=pairs,
                part=self._part(node, removal)[1],
                obstacle=self._obstacles.get(node, ""),
            )
            for (node, removal), pairs in found.items()
            if pairs
        ]

    def _part(self, node: Node, removal: Callable[..., object]) -> tuple[int, int]:
        """Return how many channels there are, and how many in each of the parts that are equal.

        A grouped convolution wants equally many channels in each of its groups, ``chunk`` in each
        of its chunks: the same place of every part has to go.
        """
        layer = node.module
        if isinstance(layer, nn.Conv2d) and 1 < layer.groups < layer.out_channels:
            outputs = self._graph.is_out_channel_pruning_fn(removal)
            total = layer.out_channels if outputs else layer.in_channels
            return total, total // layer.groups
        return self._chunks.get(node, (0, 0))

    def _follow_concatenation(self, node: Node) -> None:
        axis = _channel_axis(node.grad_fn)
        if axis is None:
            return
        start = 0
        for function, place in node.grad_fn.next_functions:
            if function is None:
                self._obstacles[node] = "they are concatenated with a constant"
                return
            size = _shape(function, place)[axis]
            if function in self._nodes:
                _connect(node, self._nodes[function], *_part(start, size))
            start += size

    def _follow_split(self, node: Node) -> None:
        axis = _channel_axis(node.grad_fn)
        if axis is None:
            return
        sizes = [int(made.shape[axis]) for made in node.grad_fn._input_metadata]
        for reader in dict.fromkeys(node.outputs):
            for function, place in reader.grad_fn.next_functions:
                if function is node.grad_fn:
                    _connect(node, reader, *_part(sum(sizes[:place]), sizes[place]))
        if len(set(sizes)) == 1:
            self._chunks[node] = (sum(sizes), sizes[0])

    def _follow_reshape(self, node: Node) -> None:
        function, place = node.grad_fn.next_functions[0]
        before, after = _shape(function, place), _shape(node.grad_fn)
        # Channels stay what they are where they are in front, as in an image, or last, as on the
        # way into a linear layer and out of it, or where dimensions of 1 come or go.
        last = before[-1] == after[-1] and 2 in (len(before), len(after))
        if before[:2] == after[:2] or last or _proper(before) == _proper(after):
            return
        if after == (before[0], prod(before[1:])):
            area = prod(before[2:])
            _connect(
                node,
                self._nodes[function],
                lambda index: (index // area,),
                lambda index: range(index * area, (index + 1) * area),
            )
        else:
            self._obstacles[node] = f"a reshape from {before} to {after} mixes them"


Change = Callable[[int], Sequence[int]]
"""What becomes of an index between a node and its neighbour."""


def _part(start: int, size: int) -> tuple[Change, Change]:
    """Return the way out of and into a tensor of which the neighbour has a part."""
    return (
        lambda index: (index - start,) if start <= index < start + size else (),
        lambda index: (index + start,),
    )


def _connect(operator: Node, neighbour: Node, leaving: Change, entering: Change) -> None:
    """State what happens to indices on both ways between an operator and its neighbour.

    A dependency applies two changes in turn: that of the node it leaves, that of the node it
    enters. Neighbours that meet twice have two dependencies.
    """
    for source, target, slot, change in (
        (operator, neighbour, 0, leaving),
        (neighbour, operator, 1, entering),
    ):
        for dependency in source.dependencies:
            if dependency.target is target and dependency.index_mapping[slot] is None:
                dependency.index_mapping[slot] = change
                break


def _shape(function: Any, place: int = 0) -> Shape:
    """Return the shape of what the operator behind a gradient function has made."""
    return tuple(int(size) for size in function._input_metadata[place].shape)


def _proper(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def _channel_axis(function: Any) -> int | None:
    """Return the axis that a concatenation, split or slice works along, if it counts channels.

    That is axis 1, or the last one behind linear layers.
    """
    rank = len(_shape(function))
    axis = function._saved_dim
    if axis >= 2**63:  # negative ones come back as unsigned numbers
        axis -= 2**64
    axis %= rank
    return axis if axis in (1, rank - 1) else None
