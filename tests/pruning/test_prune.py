"""The prune stage end to end on a tiny network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from exporter.artifacts import RESUME, Artifact, Cache, digest
from exporter.checkpoint import restore, save_checkpoint
from exporter.config import PruneConfig, TrainConfig
from exporter.data.splits import Splits
from exporter.errors import ConfigError, GraphError, ModelError
from exporter.pruning import checked_removal
from exporter.pruning.cost import Device, count_macs, count_parameters
from exporter.pruning.groups import find_groups
from exporter.pruning.prune import prune
from exporter.pruning.pruned import Pruned
from exporter.targets import TARGETS
from exporter.training import loop
from exporter.training.augmentation import augment
from exporter.training.train import Trained, train

TRAINING = TrainConfig(widths="8,16,16", epochs=2, batch_size=24)
QUICK = PruneConfig(prune=0.5, finetune_epochs=2)
BUDGET = dataclasses.replace(QUICK, prune=None)


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
    assert (pruned.asked, pruned.budget) == (0.5, None)
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


def test_the_best_epoch_of_fine_tuning_is_kept(
    trained: Trained, splits: Splits, tmp_path: Path
) -> None:
    config = dataclasses.replace(QUICK, prune=0.7, finetune_epochs=4, finetune_rate=2.0)
    (only,) = prune(tmp_path, config, 4, trained, splits).rounds
    assert only.history is not None
    assert only.validation_after == max(entry.validation_top1 for entry in only.history.epochs)


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


def test_a_cubic_schedule_removes_most_at_first(
    trained: Trained, splits: Splits, tmp_path: Path
) -> None:
    config = dataclasses.replace(QUICK, schedule="cubic", steps=3, finetune_epochs=1)
    rounds = prune(tmp_path, config, 1, trained, splits).rounds
    # 0.5 * (1 - (2/3)^3), 0.5 * (1 - (1/3)^3), 0.5
    assert [done.removed for done in rounds] == pytest.approx([0.352, 0.481, 0.5], abs=0.03)
    assert [done.history is None for done in rounds] == [True, True, False]


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
    def careless(module: nn.Module, *arguments: object) -> None:
        with torch.no_grad():
            module.get_parameter("head.weight").mul_(1.01)

    monkeypatch.setattr(checked_removal, "shrink_groups", careless)
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


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_half_of_the_work_is_the_widest_network_with_half_of_the_work(
    trained: Trained, splits: Splits, tmp_path: Path, scope: str
) -> None:
    dense = restore(trained.checkpoint)
    limit = count_macs(dense, splits.contract) // 2
    config = dataclasses.replace(
        BUDGET,
        max_macs=limit,
        allocate=scope,  # type: ignore[arg-type]
        schedule="geometric",
        steps=2,
        finetune_epochs=1,
    )
    pruned = prune(tmp_path, config, 1, trained, splits)
    macs = count_macs(restore(pruned.checkpoint), splits.contract)
    assert pruned.budget is not None
    assert (pruned.budget.name, pruned.budget.limit) == ("max-macs", limit)
    assert pruned.budget.planned == macs <= limit
    assert macs > 0.9 * limit  # one channel more would be too much
    assert pruned.asked is None
    assert 0 < pruned.rounds[0].removed < pruned.rounds[1].removed == pruned.removed


def test_a_budget_that_the_dense_network_meets_takes_nothing(
    trained: Trained, splits: Splits, tmp_path: Path
) -> None:
    count = count_parameters(restore(trained.checkpoint))
    pruned = prune(tmp_path, dataclasses.replace(BUDGET, max_parameters=count), 4, trained, splits)
    assert (pruned.rounds, pruned.removed) == ((), 0.0)
    assert pruned.budget is not None
    assert pruned.budget.planned == count


def test_a_budget_out_of_reach_is_refused(trained: Trained, splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--max-parameters 10 cannot be reached"):
        prune(tmp_path, dataclasses.replace(BUDGET, max_parameters=10), 4, trained, splits)


def test_a_budget_in_milliseconds_asks_the_table_of_this_machine(
    trained: Trained, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []

    def estimate(module: nn.Module, *arguments: object, folder: Path) -> float:
        folders.append(folder)
        return count_parameters(module) / 1e5

    monkeypatch.setattr("exporter.pruning.budget.estimate_ms", estimate)
    device = Device(target=TARGETS["cpu-int8"], machine="here", times=tmp_path / "times")
    limit = count_parameters(restore(trained.checkpoint)) / 2e5
    config = dataclasses.replace(BUDGET, max_ms=limit, finetune_epochs=1)
    pruned = prune(tmp_path, config, 4, trained, splits, device=device)
    assert pruned.budget is not None
    assert 0.6 * limit < pruned.budget.planned <= 0.97 * limit
    assert set(folders) == {tmp_path / "times"}


def with_dead_channels(trained: Trained, splits: Splits, out: Path, count: int) -> Trained:
    """The network with channels whose batch-norm always gives less than 0, which ReLU cuts off."""
    module = restore(trained.checkpoint)
    with torch.no_grad():
        module.get_parameter("blocks.1.conv2.weight")[:count] = 0
        module.get_parameter("blocks.1.norm2.bias")[:count] = -1
        module.get_buffer("blocks.1.norm2.running_mean")[:count] = 0
    checkpoint = save_checkpoint(
        folder(out), module, trained.checkpoint.model, splits.contract, kept={}
    )
    return dataclasses.replace(trained, checkpoint=checkpoint)


@pytest.mark.parametrize(("count", "gone"), [(0, 0), (3, 0), (4, 4), (7, 4)])
def test_dead_channels_go_first_in_multiples(
    trained: Trained, splits: Splits, tmp_path: Path, count: int, gone: int
) -> None:
    dying = with_dead_channels(trained, splits, tmp_path / "dying", count)
    config = dataclasses.replace(QUICK, prune=1e-6, finetune_epochs=1)
    pruned = prune(folder(tmp_path / "out"), config, 4, dying, splits)
    assert pruned.dead == gone
    assert pruned.widths["blocks.1.conv2"] == (16, 16 - gone)
    left = set(range(16)) - set(pruned.checkpoint.kept["blocks.1.conv2"])
    assert left <= set(range(count))


def test_a_scan_decides_where_channels_go(trained: Trained, splits: Splits, tmp_path: Path) -> None:
    groups = [group.name for group in find_groups(restore(trained.checkpoint), splits.contract)]
    curves = dict.fromkeys(groups, ((0.5, 90.0),)) | {"blocks.2.conv1": ((0.9, 0.0),)}
    config = dataclasses.replace(QUICK, prune=0.15, allocate="sensitivity", finetune_epochs=1)
    pruned = prune(tmp_path, config, 2, trained, splits, curves=curves)
    assert pruned.widths["blocks.2.conv1"][1] <= 4
    assert all(
        before == after
        for name, (before, after) in pruned.widths.items()
        if name != "blocks.2.conv1"
    )


def test_another_teacher_teaches_something_else(
    trained: Trained, splits: Splits, tmp_path: Path
) -> None:
    other = train(
        folder(tmp_path / "teacher"),
        TrainConfig(model="simple-cnn", widths="8,8,16", epochs=1, batch_size=24),
        splits,
    )
    config = dataclasses.replace(QUICK, finetune_epochs=1)
    found = {
        name: prune(folder(tmp_path / name), config, 4, trained, splits, teacher=teacher)
        for name, teacher in [("none", None), ("dense", trained.checkpoint)]
    }
    taught = prune(folder(tmp_path / "other"), config, 4, trained, splits, teacher=other.checkpoint)
    digests = {name: pruned.checkpoint.weights.sha256 for name, pruned in found.items()}
    assert digests["none"] == digests["dense"] != taught.checkpoint.weights.sha256


@pytest.mark.parametrize(("with_it", "without"), [(70.0, 80.0), (80.0, 70.0), (70.0, 70.0)])
def test_the_teacher_is_kept_where_it_helps(
    trained: Trained,
    splits: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_it: float,
    without: float,
) -> None:
    config = dataclasses.replace(QUICK, finetune_epochs=1)
    taught = prune(folder(tmp_path / "taught"), config, 4, trained, splits)
    alone = prune(
        folder(tmp_path / "alone"), dataclasses.replace(config, distill=0.0), 4, trained, splits
    )
    assert taught.checkpoint.weights.sha256 != alone.checkpoint.weights.sha256
    assert taught.distillation is None
    scores = iter([with_it, without])
    monkeypatch.setattr("exporter.pruning.recovery.evaluate", lambda *arguments: next(scores))
    chosen = prune(
        folder(tmp_path / "auto"),
        dataclasses.replace(config, distill_auto=True),
        4,
        trained,
        splits,
    )
    assert chosen.distillation is not None
    assert chosen.distillation.with_teacher == with_it
    assert chosen.distillation.without_teacher == without
    better = alone if without > with_it else taught
    assert chosen.checkpoint.weights.sha256 == better.checkpoint.weights.sha256


class KilledError(Exception):
    pass


@pytest.mark.parametrize("killed_in", [1, 6])
def test_killed_and_continued_ends_with_the_same_bytes(
    trained: Trained,
    splits: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_in: int,
) -> None:
    """Two epochs of the first round, two of the second with the teacher and two without."""
    limit = count_macs(restore(trained.checkpoint), splits.contract) // 2
    config = dataclasses.replace(
        BUDGET, max_macs=limit, schedule="cubic", steps=2, finetune_epochs=4, distill_auto=True
    )

    def run(cache: str) -> Pruned:
        return Cache(tmp_path / cache).run(prune, config, 4, trained, splits)

    whole = run("whole")
    calls = 0

    def killing(*arguments: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 16 * (killed_in - 1) + 5:  # an epoch has 16 steps
            raise KilledError
        return augment(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "augment", killing)
    with pytest.raises(KilledError):
        run("killed")
    monkeypatch.setattr(loop, "augment", augment)
    again = run("killed")
    assert digest(again) == digest(whole)
    assert again.checkpoint.weights.sha256 == whole.checkpoint.weights.sha256
    assert not list((tmp_path / "killed").glob(f"*/{RESUME}"))
