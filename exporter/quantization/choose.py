"""Which range method, decided on validation images with the quantized file itself."""

from __future__ import annotations

import numpy as np

from exporter.artifacts import Cache
from exporter.data.splits import Split
from exporter.graph.model import OnnxModel
from exporter.progress import say
from exporter.quantization.calibrate import Calibrated
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.targets import Target
from exporter.verification.predict import predict


def choose_ranges(
    cache: Cache, target: Target, model: OnnxModel, ranges: Calibrated, validation: Split
) -> QuantizedModel:
    """Return the quantized model that classifies most validation images right.

    Among equals the one whose logits lie closest to the float model's wins, then the first.
    """
    candidates = [
        cache.run(quantize, target, model, ranges.by_method[method], method)
        for method in ranges.by_method
    ]
    if len(candidates) == 1:
        return candidates[0]
    _, labels = validation.arrays()
    reference = np.load(cache.run(predict, model.file, validation).logits.path)
    ranked = []
    for candidate in candidates:
        logits = np.load(cache.run(predict, candidate.file, validation).logits.path)
        correct = int((logits.argmax(1) == labels).sum())
        ranked.append((correct, -float(np.square(logits - reference).mean())))
    best = max(range(len(candidates)), key=ranked.__getitem__)
    say(
        "Ranges on validation: "
        + ", ".join(
            f"{candidate.method} {100 * correct / len(labels):.2f} %"
            for candidate, (correct, _) in zip(candidates, ranked, strict=True)
        )
        + f"; {candidates[best].method} it is."
    )
    return candidates[best]
