"""What networks return, in torch or in ONNX Runtime, and how far two answers are apart.

Classifiers return logits; others anything made of tensors. Segmentation networks return a
dictionary, backbones of detectors one of feature maps by level.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor


def named_tensors(output: object, name: str = "output") -> dict[str, Tensor]:
    """Return all tensors in what a network returned, by name, in its order.

    ONNX Runtime's arrays count for tensors. A dictionary's keys are names; what stands in a list
    gets its place behind ``name``, as in ``output_0``; a tensor alone is called ``name``.
    """
    if isinstance(output, Tensor):
        return {name: output}
    if isinstance(output, np.ndarray):
        return {name: torch.from_numpy(output)}
    if isinstance(output, Mapping):
        parts = [named_tensors(part, str(key)) for key, part in output.items()]
    elif isinstance(output, Iterable) and not isinstance(output, str):
        parts = [named_tensors(part, f"{name}_{place}") for place, part in enumerate(output)]
    else:
        parts = []
    return {key: tensor for part in parts for key, tensor in part.items()}


def largest_difference(found: object, wanted: object) -> float:
    """Return how far two outputs are apart; not a number where one of them is none somewhere.

    Tensor by tensor, that is the largest |difference| over the largest |value| of the wanted one;
    the largest of these counts. Both hold the same number of tensors, in the same shapes.
    """
    pairs = zip(named_tensors(found).values(), named_tensors(wanted).values(), strict=True)
    differences = [
        float((after - before).abs().max() / before.abs().max().clamp(min=1e-12))
        for after, before in pairs
    ]
    # max() passes a NaN over, unless it comes first.
    return next((value for value in differences if value != value), max(differences, default=0.0))
