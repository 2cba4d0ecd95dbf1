"""Networks that only the benchmarks need, given to the tool as a user gives it theirs."""

from __future__ import annotations

from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut, 1x1 where the shape changes."""

    def __init__(self, incoming: int, outgoing: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(incoming, outgoing, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outgoing)
        self.conv2 = nn.Conv2d(outgoing, outgoing, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outgoing)
        self.shortcut = nn.Sequential()
        if stride != 1 or incoming != outgoing:
            self.shortcut = nn.Sequential(
                nn.Conv2d(incoming, outgoing, 1, stride, bias=False), nn.BatchNorm2d(outgoing)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[N, incoming, H, W]`` to ``[N, outgoing, H / stride, W / stride]``."""
        inner = nn.functional.relu(self.norm1(self.conv1(features)))
        return nn.functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(features))


class ResNet(nn.Module):
    """Three stages of ``blocks`` blocks at full, half and quarter resolution."""

    def __init__(self, *, blocks: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        stages: list[nn.Module] = []
        incoming = width
        for stage in range(3):
            outgoing = width * 2**stage
            for index in range(blocks):
                stages.append(Block(incoming, outgoing, 2 if stage and not index else 1))
                incoming = outgoing
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(incoming, num_classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Map normalised pixels ``[N, 3, H, W]`` to logits ``[N, num_classes]``."""
        features = nn.functional.relu(self.norm(self.conv(pixels)))
        logits: Tensor = self.fc(self.pool(self.stages(features)).flatten(1))
        return logits


def resnet20(num_classes: int = 10, width: int = 16) -> ResNet:
    """Return He et al.'s ResNet-20 for 32x32 images, 1x1 convolutions on the shortcuts.

    Source: Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2 (there the
    shortcuts pad with zeros, option A). ``width`` is that of the first of the three stages.
    """
    return ResNet(blocks=3, width=width, num_classes=num_classes)


def resnet8(num_classes: int = 10, width: int = 16) -> ResNet:
    """Return the same with one block per stage instead of three."""
    return ResNet(blocks=1, width=width, num_classes=num_classes)
