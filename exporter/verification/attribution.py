"""Which step of a build cost how much accuracy, all measured on the same images.

The models form a chain, and each step leads from one to the next: pruning and fine-tuning happen in
torch, then the network is exported, then quantized. The drops of all steps add up to that of the
whole chain. Where there is no torch network (finished files, an ONNX file brought along), the chain
runs over the ONNX files alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from exporter.report.evidence import StepLoss
from exporter.report.model import ShippedModel
from exporter.verification.accuracy import accuracy, compare

Logits = NDArray[np.float32]


def attribute(
    files: Mapping[ShippedModel, Logits],
    networks: Mapping[ShippedModel, Logits],
    labels: NDArray[np.int64],
    *,
    pruned_unseen: bool = False,
) -> tuple[StepLoss, ...]:
    """Return what each step cost, in the order of the build.

    Args:
        files: ``float [N, classes]`` logits of the ONNX files: dense, small where something was
            pruned, int8 where something was quantized.
        networks: the same of the float ones in torch, or nothing.
        labels: ``int [N]``.
        pruned_unseen: whether the int8 file was pruned although there is no small float one; what
            both cost together is then one step.
    """
    return tuple(
        _loss(step, before, after, first, second, labels)
        for (_, before, first), (step, after, second) in pairwise(
            _chain(files, networks, pruned_unseen)
        )
    )


def _chain(
    files: Mapping[ShippedModel, Logits],
    networks: Mapping[ShippedModel, Logits],
    pruned_unseen: bool,
) -> list[tuple[str, str, Logits]]:
    """Return step that leads to it, name and logits of every model, from dense on."""
    floats = networks or {name: logits for name, logits in files.items() if name != "int8"}
    kind = "torch" if networks else "ONNX"
    last: ShippedModel = "small" if "small" in files else "dense"
    chain = [("", f"dense {kind}", floats["dense"])]
    if last == "small":
        chain.append(("pruning", f"pruned {kind}", floats["small"]))
    if networks:
        word = "pruned" if last == "small" else "dense"
        chain.append(("export", f"{word} ONNX", files[last]))
    if "int8" in files:
        step = "pruning and quantization" if pruned_unseen else "quantization"
        chain.append((step, "int8", files["int8"]))
    return chain


def _loss(
    step: str, before: str, after: str, first: Logits, second: Logits, labels: NDArray[np.int64]
) -> StepLoss:
    change = compare(first, second, labels)
    return StepLoss(
        step=step,
        before=before,
        after=after,
        top1_before=accuracy(first, labels).top1,
        top1_after=accuracy(second, labels).top1,
        drop_points=change.drop_points,
        drop_ci=change.drop_ci,
        mcnemar_p=change.mcnemar_p,
        changed_share=change.changed_share,
    )
