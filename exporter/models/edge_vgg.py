"""A small network shaped by what int8 kernels like: few, wide, plain layers.

The layout follows the CIFAR-10 speed-run networks (Jordan, arXiv 2404.00498): a frozen 2x2
convolution that whitens image patches, then three blocks of two 3x3 convolutions. ReLU instead of
GELU, so that the activation disappears into the integer convolution; no branches, so that every
filter can be pruned on its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WHITENED = 24
"""Two signed copies of the 12 principal components of a 2x2 RGB patch."""
WHITENING_FLOOR = 5e-4
"""Added to the eigenvalues, so that near-constant components are not blown up to noise."""


class EdgeVGG(nn.Module):
    """Whitening stem, three blocks of two convolutions, one linear layer."""

    def __init__(self, *, widths: tuple[int, ...], classes: int, height: int, width: int) -> None:
        super().__init__()
        # The stem is fixed once it is fitted: training never looks behind it.
        self.whiten = nn.Conv2d(3, WHITENED, 2).requires_grad_(False)
        self.blocks = nn.ModuleList()
        channels = WHITENED
        side = [height - 1, width - 1]
        for block_width in widths:
            self.blocks.append(_Block(channels, block_width))
            channels = block_width
            side = [length // 2 for length in side]
        self.pool = nn.MaxPool2d((side[0], side[1]))
        self.head = nn.Linear(channels, classes)

    def fit_stem(self, pixels: Tensor) -> None:
        """Set the stem so that its outputs are decorrelated and of unit variance on ``pixels``."""
        patches = nn.functional.unfold(pixels, 2).transpose(1, 2).reshape(-1, 12).double()
        covariance = patches.T @ patches / len(patches)
        values, vectors = torch.linalg.eigh(covariance)
        filters = (vectors / (values + WHITENING_FLOOR).sqrt()).T.reshape(12, 3, 2, 2).float()
        with torch.no_grad():
            self.whiten.weight.copy_(torch.cat([filters, -filters]))
            self.whiten.get_parameter("bias").zero_()

    def forward(self, pixels: Tensor) -> Tensor:
        """Map normalised pixels ``[N, 3, H, W]`` to logits ``[N, classes]``."""
        features = nn.functional.relu(self.whiten(pixels))
        for block in self.blocks:
            features = block(features)
        logits: Tensor = self.head(self.pool(features).flatten(1))
        return logits


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(2)
        for conv in (self.conv1, self.conv2):
            # The first filters start as the identity: a plain network without branches then
            # begins by passing its input on (dirac initialisation, arXiv 1706.00388).
            nn.init.dirac_(conv.weight[: conv.in_channels])
        for norm in (self.norm1, self.norm2):
            norm.weight.requires_grad = False

    def forward(self, features: Tensor) -> Tensor:
        features = self.conv1(features)
        if self.training:
            # Batch-norm and ReLU on a quarter of the pixels. Both orders agree, because a
            # batch-norm whose weight is fixed at 1 (0 once pruned) is monotone and commutes with
            # the maximum; only the second order lets batch-norm fold into the convolution.
            features = nn.functional.relu(self.norm1(self.pool(features)))
        else:
            features = self.pool(nn.functional.relu(self.norm1(features)))
        return nn.functional.relu(self.norm2(self.conv2(features)))
