"""Channels that are tied, described by names and indices: valid for any copy of the network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Tied:
    """A layer of a group, and where each of the group's channels lies in it."""

    layer: str
    positions: tuple[tuple[int, ...], ...]
    """Per channel, the indices along the layer's coupled dimension, ascending. Several after a
    flatten, and where a grouped convolution wants the same number of channels in each group: then
    one channel of the group is one of each, and they leave together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TiedParameter:
    """A parameter that belongs to no layer (a layer's scale, a bias of its own), or PReLU's."""

    name: str
    dimension: int
    """The one that counts channels."""
    positions: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Channels of one or more layers that must be removed together."""

    name: str
    """The first layer, in the network's order, that produces these channels."""
    width: int
    producers: tuple[Tied, ...]
    """Convolutions and linears whose outputs they are. A depthwise convolution, whose inputs they
    are as well, is one."""
    norms: tuple[Tied, ...]
    consumers: tuple[Tied, ...]
    """Convolutions and linears whose inputs they are."""
    parameters: tuple[TiedParameter, ...] = ()

    @property
    def step(self) -> int:
        """Return how many outputs the layers lose per channel of the group."""
        return len(self.producers[0].positions[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Fixed:
    """Channels that are left alone."""

    layer: str
    """The first layer, in the network's order, that produces them."""
    width: int
    reason: str
    """Worded to follow "left alone because"."""
