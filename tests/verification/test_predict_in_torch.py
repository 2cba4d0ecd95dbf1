from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from exporter.artifacts import Cache
from exporter.checkpoint import save_checkpoint
from exporter.data.splits import Splits
from exporter.graph.export import export_onnx
from exporter.models.family import ModelRef, build_model
from exporter.verification.predict import predict
from exporter.verification.predict_in_torch import predict_in_torch


def test_torch_and_the_exported_file_give_the_same_logits(tmp_path: Path, splits: Splits) -> None:
    torch.manual_seed(0)
    model = ModelRef(name="simple-cnn", widths=(4, 4, 8))
    module = build_model(model, splits.contract).eval()
    checkpoint = save_checkpoint(tmp_path, module, model, splits.contract, kept={})
    cache = Cache(tmp_path / "cache")

    found = cache.run(predict_in_torch, checkpoint, splits.test)

    logits = np.load(found.logits.path)
    exported = cache.run(predict, cache.run(export_onnx, checkpoint).file, splits.test)
    assert (found.count, logits.shape, logits.dtype) == (30, (30, 3), np.float32)
    assert np.ptp(logits, axis=0).min() > 0
    np.testing.assert_allclose(logits, np.load(exported.logits.path), atol=1e-4)
    assert [run.name for run in cache.runs] == ["predict-in-torch", "export-onnx", "predict"]
