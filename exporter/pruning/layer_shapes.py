"""A layer without its weights: all that decides how long the runtime takes for it."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

Pair = tuple[int, int]
"""Rows and columns."""

Kind = Literal[
    "pad", "conv", "linear", "max-pool", "average-pool", "global-average-pool", "flatten",
    "add", "multiply", "concat", "shuffle", "silu", "hard-swish", "sigmoid", "hard-sigmoid",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerShape:
    """A layer without its weights. Equal shapes take equal time."""

    kind: Kind
    inputs: int
    """Channels or features that are read."""
    outputs: int
    size: Pair
    """Pixels that are read; of a linear layer, its rows (1 for a plain classifier) and 1."""
    out_size: Pair
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    """Of a concatenation, its parts, which count as equal."""

    def __str__(self) -> str:
        """Return the layer in one line: ``conv 24>32 31x31>31x31 kernel 3x3 padding 1x1``."""
        usual = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
        words = [
            self.kind,
            f"{self.inputs}>{self.outputs}",
            f"{_by(self.size)}>{_by(self.out_size)}",
        ]
        for name, value in usual.items():
            if getattr(self, name) != value:
                words += [name, _by(getattr(self, name))]
        if self.groups != 1:
            words += ["groups", str(self.groups)]
        return " ".join(words)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of what is read: channels last; a shuffle needs whole planes."""
        if self.kind == "linear":
            return (self.size[0], self.inputs)
        if self.kind == "shuffle":
            return (1, self.inputs, *self.size)
        return (1, *self.size, self.inputs)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Return the shape of what is put out, likewise; a flattened image is a row."""
        if self.kind == "linear":
            return (self.out_size[0], self.outputs)
        if self.kind == "flatten":
            return (1, self.outputs)
        if self.kind == "shuffle":
            return (1, prod(self.size) * self.outputs)
        return (1, *self.out_size, self.outputs)


def _by(pair: Pair) -> str:
    return f"{pair[0]}x{pair[1]}"
