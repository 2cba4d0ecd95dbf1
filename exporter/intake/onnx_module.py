"""An ONNX graph where torch expects a network: to be tried on images, not to be trained."""

from __future__ import annotations

import torch
from onnx import ModelProto
from torch import Tensor, nn

from exporter.graph.normalization import NORMALIZED
from exporter.intake.first_operators import FirstOperators
from exporter.intake.run import open_model


class OnnxModule(nn.Module):
    """Maps pixels as the file takes them to logits, ``float32 [N, 3, H, W]`` to ``[N, classes]``.

    Its own first operators were taken out of the graph; here they come first again.
    """

    def __init__(self, core: ModelProto, first: FirstOperators, channel_order: str) -> None:
        super().__init__()
        step = -1 if channel_order == "bgr" else 1
        self.session = open_model(core, threads=0)
        self.gain, self.offset = (
            nn.Parameter(
                torch.from_numpy(values[::step].copy()).float().view(1, -1, 1, 1),
                requires_grad=False,
            )
            for values in (first.gain, first.offset)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        normalized = (pixels * self.gain + self.offset).contiguous()
        (logits,) = self.session.run(None, {NORMALIZED: normalized.numpy()})
        return torch.from_numpy(logits)
