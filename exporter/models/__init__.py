"""The networks that can be trained here: one family per file, one row per network.

A network takes normalised pixels ``float32 [N, 3, H, W]`` and returns logits ``float32
[N, classes]``. Only operators with integer kernels in ONNX Runtime are used: Conv, Relu, Add,
MaxPool, AveragePool, Flatten, Gemm; batch-norm folds into the convolution before it.

Any other network comes by ``exporter.models.foreign``.
"""

from __future__ import annotations

from exporter.errors import ModelError
from exporter.models.edge_vgg import EdgeVGG
from exporter.models.family import Family, ModelRef, build_model
from exporter.models.foreign import ANY_FORM
from exporter.models.resnet8 import ResNet8
from exporter.models.simple_cnn import SimpleCNN

__all__ = ["MODELS", "Family", "ModelRef", "build_model", "find_model"]

_FAMILIES = (
    Family(
        name="edge-vgg",
        summary="few wide layers, no branches: made for int8 kernels and for pruning",
        factory=EdgeVGG,
        widths=(32, 128, 128),
        smallest_side=18,
        learning_rate=0.24,
    ),
    Family(
        name="resnet8",
        summary="MLPerf Tiny's image classifier (IC01), 78,666 parameters",
        factory=ResNet8,
        widths=(16, 32, 64),
        smallest_side=8,
        learning_rate=0.24,
    ),
    Family(
        name="simple-cnn",
        summary="the article's network: two convolutions and a large fully connected layer",
        factory=SimpleCNN,
        widths=(64, 128, 1024),
        smallest_side=4,
        learning_rate=0.15,
    ),
)

MODELS: dict[str, Family] = {family.name: family for family in _FAMILIES}


def find_model(name: str) -> Family:
    """Return the family called ``name``; raises ModelError that lists the known ones."""
    try:
        return MODELS[name]
    except KeyError:
        raise ModelError(
            f"Unknown model {name!r}. Known: {', '.join(MODELS)}; or {ANY_FORM}."
        ) from None
