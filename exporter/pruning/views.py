"""A group and a layer as criteria see them; a property is worked out when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from exporter.errors import ConfigError
from exporter.pruning.evidence import Evidence, weighted_layers
from exporter.pruning.groups import Group
from exporter.pruning.layout import by_input, by_weight, rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Channels:
    """One group: everything has a row per channel and is float64."""

    module: nn.Module
    group: Group
    evidence: Evidence
    alpha: float
    """The article's coefficient between weights and activations."""
    seed: int

    @property
    def incoming(self) -> Tensor:
        """``[C, n]``: the weights that produce each channel, all tied layers side by side."""
        return self._produced_with(self._weights())

    @property
    def outgoing(self) -> Tensor:
        """``[C, m]``: the weights that read it."""
        return self._read_with(self._weights())

    @property
    def gradient(self) -> Tensor:
        """``[C, n]``: mean |dL/dw| of the incoming weights."""
        return self._produced_with(self.evidence.gradient)

    @property
    def outgoing_gradient_square(self) -> Tensor:
        """``[C, m]``: mean (dL/dw)^2 of the outgoing weights."""
        return self._read_with(self.evidence.gradient_square)

    @property
    def removal_square(self) -> Tensor:
        """``[C]``: mean over batches of the squared first-order change of the loss."""
        return self.evidence.removal_square[self.group.name]

    @property
    def activation_mean(self) -> Tensor:
        """``[C]``: mean |a| as the consumers see it."""
        return self._seen(self.evidence.input_mean).mean(1)

    @property
    def activation_norm(self) -> Tensor:
        """``[C]``: root mean square of a as the consumers see it."""
        return self._seen(self.evidence.input_norm).square().mean(1).sqrt()

    @property
    def activation_active(self) -> Tensor:
        """``[C]``: share of values that are not zero, as the consumers see it."""
        return self._seen(self.evidence.input_active).mean(1)

    @property
    def map_rank(self) -> Tensor:
        """``[C]``: average rank of the feature map, the mean over tied layers."""
        sources = self.group.norms or self.group.producers
        found = self.evidence.map_rank
        return torch.cat([rows(found[tied.layer], tied.positions) for tied in sources], 1).mean(1)

    @property
    def norm_scale(self) -> Tensor:
        """``[C, k]``: gamma of every batch-norm that a channel passes.

        Raises:
            ConfigError: there is none, or it is fixed and says nothing.
        """
        wanted = "bn-scale compares the learned scales of batch-norms, but"
        way_out = "Use another criterion, such as l2 or wanda; `exporter criteria` lists them."
        if not self.group.norms:
            raise ConfigError(f"{wanted} {self.group.name} has no batch-norm. {way_out}")
        scales = []
        for tied in self.group.norms:
            scale = self.module.get_submodule(tied.layer).weight
            if not isinstance(scale, nn.Parameter) or not scale.requires_grad:
                raise ConfigError(f"{wanted} that of {tied.layer} is fixed. {way_out}")
            scales.append(rows(scale.detach(), tied.positions))
        return torch.cat(scales, 1)

    def _weights(self) -> dict[str, Tensor]:
        return {
            tied.layer: self.module.get_parameter(f"{tied.layer}.weight").detach()
            for tied in (*self.group.producers, *self.group.consumers)
        }

    def _produced_with(self, by_layer: Mapping[str, Tensor]) -> Tensor:
        """What lies in the filters that put out each channel."""
        return torch.cat(
            [rows(by_layer[tied.layer], tied.positions) for tied in self.group.producers], 1
        )

    def _read_with(self, by_layer: Mapping[str, Tensor]) -> Tensor:
        """What lies in the slices of filters that read each channel."""
        layers = weighted_layers(self.module)
        return torch.cat(
            [
                rows(by_input(by_layer[tied.layer], layers[tied.layer]), tied.positions)
                for tied in self.group.consumers
            ],
            1,
        )

    def _seen(self, by_layer: Mapping[str, Tensor]) -> Tensor:
        """What is known of the values that each consumer reads."""
        return torch.cat(
            [rows(by_layer[tied.layer], tied.positions) for tied in self.group.consumers], 1
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """One layer: everything is shaped as its weight or multiplies with it, in float64."""

    module: nn.Module
    layer: str
    evidence: Evidence
    alpha: float
    seed: int

    @property
    def weight(self) -> Tensor:
        """The weight itself, ``[out, in / groups, ...]``."""
        return self.module.get_parameter(f"{self.layer}.weight").detach().double()

    @property
    def gradient(self) -> Tensor:
        """Mean |dL/dw|."""
        return self.evidence.gradient[self.layer]

    @property
    def gradient_square(self) -> Tensor:
        """Mean (dL/dw)^2."""
        return self.evidence.gradient_square[self.layer]

    @property
    def activation_mean(self) -> Tensor:
        """Mean |a| of each weight's input."""
        return self._of_input(self.evidence.input_mean)

    @property
    def activation_norm(self) -> Tensor:
        """Root mean square of each weight's input."""
        return self._of_input(self.evidence.input_norm)

    def _of_input(self, by_layer: Mapping[str, Tensor]) -> Tensor:
        return by_weight(by_layer[self.layer], weighted_layers(self.module)[self.layer])
