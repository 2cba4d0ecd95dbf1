"""The prune stage end to end on a tiny network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from exporter.artifacts import Artifact, Cache
from exporter.checkpoint import restore
from exporter.config import PruneConfig, TrainConfig
from exporter.data.splits import Splits
from exporter.errors import GraphError, ModelError
from exporter.pruning import prune as prune_module
from exporter.pruning.prune import prune
from exporter.training.train import Trained, train

TRAINING = TrainConfig(widths="8,16,16", epochs=2, batch_size=24)
QUICK = PruneConfig(prune=0.5, finetune_epochs=2)


@pytest.fixture(scope="module")
def trained(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Cache(tmp_path_factory.mktemp("cache")).run(train, TRAINING, splits)


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_channels_go_for_good_and_the_checkpoint_loads(
    trained: Trained, splits: Splits, tmp_path: Path
) -> None:
    pruned = prune(folder(tmp_path / "a"), QUICK, 4, trained, splits)
    assert pruned.removed == pytest.approx(0.5, abs=0.1)
    assert all(after % 4 == 0 and after <= before for before, after in pruned.widths.values())
    module = restore(pruned.checkpoint)
    for name, (_, after) in pruned.widths.items():
        assert module.get_parameter(f"{name}.weight").shape[0] == after
    (only,) = pruned.rounds
    assert only.folded_error == 0
    assert only.shrunk_error < 1e-5
    assert only.history is not None
    assert len(only.history.epochs) == 2
    dense = restore(trained.checkpoint)
    assert sum(p.numel() for p in module.parameters()) < 0.5 * sum(
        p.numel() for p in dense.parameters()
    )
    again = prune(folder(tmp_path / "b"), QUICK, 4, trained, splits)
    assert again.checkpoint.weights.sha256 == pruned.checkpoint.weights.sha256


def test_rounds_add_up(trained: Trained, splits: Splits, tmp_path: Path) -> None:
    config = dataclasses.replace(QUICK, schedule="linear", steps=2, finetune_epochs=3)
    pruned = prune(tmp_path, config, 2, trained, splits)
    first, second = pruned.rounds
    assert first.removed == pytest.approx(0.25, abs=0.06)
    assert second.removed == pytest.approx(0.5, abs=0.06)
    epochs = [len(done.history.epochs) for done in pruned.rounds if done.history]
    assert epochs == [1, 2]
    kept = pruned.checkpoint.kept["blocks.1.conv1"]
    assert len(kept) == pruned.widths["blocks.1.conv1"][1]
    assert kept == tuple(sorted(set(kept)))
    assert max(kept) < 16
    restore(pruned.checkpoint)


def test_weight_masks_survive_fine_tuning(trained: Trained, splits: Splits, tmp_path: Path) -> None:
    config = dataclasses.replace(QUICK, prune=0.9, unit="weights")
    pruned = prune(tmp_path, config, 16, trained, splits)
    module = restore(pruned.checkpoint)
    weights = torch.cat(
        [
            layer.weight.flatten()
            for name, layer in module.named_modules()
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) and name != "whiten"
        ]
    )
    assert float((weights == 0).float().mean()) == pytest.approx(0.9, abs=1e-3)
    assert pruned.removed == pytest.approx(0.9, abs=1e-3)
    assert all(before == after for before, after in pruned.widths.values())


def test_a_share_of_nothing_gives_the_network_back(
    trained: Trained, splits: Splits, tmp_path: Path
) -> None:
    pruned = prune(tmp_path, dataclasses.replace(QUICK, prune=0.0), 16, trained, splits)
    assert pruned.rounds == ()
    first, second = restore(trained.checkpoint), restore(pruned.checkpoint)
    pixels = torch.randn(2, 3, 20, 20)
    assert torch.equal(first(pixels), second(pixels))


def test_a_network_that_changes_is_refused(
    trained: Trained, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(module: torch.nn.Module, *arguments: object) -> None:
        with torch.no_grad():
            module.get_parameter("head.weight").mul_(1.01)

    monkeypatch.setattr(prune_module, "shrink_groups", careless)
    with pytest.raises(GraphError, match="after shrinking"):
        prune(tmp_path, QUICK, 16, trained, splits)


def test_weights_that_do_not_fit_are_refused(
    trained: Trained, splits: Splits, tmp_path: Path
) -> None:
    pruned = prune(
        folder(tmp_path / "a"), dataclasses.replace(QUICK, finetune_epochs=1), 4, trained, splits
    )
    mixed = dataclasses.replace(trained.checkpoint, weights=pruned.checkpoint.weights)
    with pytest.raises(ModelError, match="does not fit edge-vgg"):
        restore(mixed)
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(pruned.checkpoint.weights.path.read_bytes()[:100])
    with pytest.raises(ModelError, match="Cannot read the weights"):
        restore(dataclasses.replace(trained.checkpoint, weights=Artifact.of(torn)))
