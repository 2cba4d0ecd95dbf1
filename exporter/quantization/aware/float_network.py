"""A float file as a torch network: the teacher of its own rounded copy."""

from __future__ import annotations

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn

from exporter.graph.contract import INPUT_SIDE
from exporter.graph.normalization import NORMALIZED
from exporter.graph.wiring import Wiring
from exporter.quantization.aware.operators import operator_of


class FloatNetwork(nn.Module):
    """From normalised pixels ``[N, C, H, W]`` to logits, with the weights of the file."""

    def __init__(self, model: ModelProto) -> None:
        """Take apart a float file; raises GraphError for an operator that is not known here."""
        super().__init__()
        wiring = Wiring.of(model.graph)
        self._steps = [
            (node, operator_of(node))
            for node in model.graph.node
            if not set(INPUT_SIDE) & set(node.output)
        ]
        self._output = model.graph.output[0].name
        self._constants: dict[str, str] = {}
        for name in wiring.constants:
            self._constants[name] = key = f"constant_{len(self._constants)}"
            values = torch.from_numpy(np.array(wiring.values(name)))
            self.register_buffer(key, values, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map normalised pixels to logits ``[N, classes]``."""
        values: dict[str, Tensor] = {NORMALIZED: pixels}
        for node, compute in self._steps:
            inputs = [self._value(name, values) if name else None for name in node.input]
            values.update(zip(node.output, compute(inputs), strict=True))
        return values[self._output]

    def _value(self, name: str, values: dict[str, Tensor]) -> Tensor:
        return values[name] if name in values else self.get_buffer(self._constants[name])
