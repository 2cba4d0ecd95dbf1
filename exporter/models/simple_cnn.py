"""The article's network: two convolutions, each with ReLU and 2x2 max pooling, then two linears.

The article writes the flattened size as a constant that fits one image size only; here it follows
from the image's size.
"""

from __future__ import annotations

from torch import Tensor, nn


class SimpleCNN(nn.Module):
    """3 -> 64 -> 128 channels at the default widths, 1,024 hidden units."""

    def __init__(self, *, widths: tuple[int, ...], classes: int, height: int, width: int) -> None:
        super().__init__()
        first, second, hidden = widths
        self.conv1 = nn.Conv2d(3, first, 3, padding=1)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(second * (height // 4) * (width // 4), hidden)
        self.fc2 = nn.Linear(hidden, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map normalised pixels ``[N, 3, H, W]`` to logits ``[N, classes]``."""
        features = self.pool(nn.functional.relu(self.conv1(pixels)))
        features = self.pool(nn.functional.relu(self.conv2(features)))
        hidden = nn.functional.relu(self.fc1(features.flatten(1)))
        logits: Tensor = self.fc2(hidden)
        return logits
