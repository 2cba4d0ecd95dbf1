"""ResNet-8 as MLPerf Tiny's image classification benchmark defines it (IC01).

Reference: mlcommons/tiny, ``benchmark/training/image_classification/keras_model.py``. Every
convolution has a bias, the 1x1 shortcuts have no batch-norm; 78,666 parameters for 10 classes,
the 960 of the batch-norms (four per channel, as Keras counts them) included.
"""

from __future__ import annotations

from torch import Tensor, nn


class ResNet8(nn.Module):
    """A stem and three residual stages of one block each."""

    def __init__(self, *, widths: tuple[int, ...], classes: int, height: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.norm = nn.BatchNorm2d(widths[0])
        self.stages = nn.ModuleList()
        channels = widths[0]
        for index, stage_width in enumerate(widths):
            self.stages.append(_Residual(channels, stage_width, stride=1 if index == 0 else 2))
            channels = stage_width
        # Strided 3x3 convolutions with padding round the side up.
        self.pool = nn.AvgPool2d((-(-height // 4), -(-width // 4)))
        self.head = nn.Linear(channels, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map normalised pixels ``[N, 3, H, W]`` to logits ``[N, classes]``."""
        features = nn.functional.relu(self.norm(self.stem(pixels)))
        for stage in self.stages:
            features = stage(features)
        logits: Tensor = self.head(self.pool(features).flatten(1))
        return logits


class _Residual(nn.Module):
    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inputs, width, 1, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        inner = nn.functional.relu(self.norm1(self.conv1(features)))
        return nn.functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(features))
