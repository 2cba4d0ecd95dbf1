"""Logits of a whole split, computed by torch from a checkpoint: what export is compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exporter.artifacts import Artifact
from exporter.checkpoint import Checkpoint, restore
from exporter.data.splits import Split
from exporter.progress import track
from exporter.training.augmentation import normalise
from exporter.verification.predict import Predictions

VERSION = 1
BATCH = 256


def predict_in_torch(out: Path, checkpoint: Checkpoint, data: Split) -> Predictions:
    """Return the float32 logits of every image; raises ModelError for a damaged checkpoint."""
    import torch

    module = restore(checkpoint)
    images = np.load(data.images.path, mmap_mode="r")
    file = out / "logits.npy"
    logits = []
    task = f"Predicting {len(images)} {data.name} images in torch"
    with torch.inference_mode(), track(task, total=len(images)) as advance:
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(np.array(images[start : start + BATCH]))
            logits.append(module(normalise(batch, checkpoint.contract)).numpy())
            advance(len(batch), "")
    np.save(file, np.concatenate(logits))
    return Predictions(logits=Artifact.of(file), count=len(images))
