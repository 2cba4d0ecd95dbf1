"""What the prune stage is run with: teacher, device, scan, and what of it counts for the cache."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from exporter.artifacts import Cache, save_result
from exporter.config import PruneConfig, TrainConfig
from exporter.data.splits import Splits
from exporter.errors import ModelError
from exporter.pruning import small as module
from exporter.pruning.cost import count_parameters
from exporter.pruning.small import find_teacher, small_network
from exporter.targets import TARGETS
from exporter.training.train import Trained, train

TARGET, OTHER = TARGETS["cpu-int8"], TARGETS["cpu-int8-vnni"]
QUICK = PruneConfig(finetune_epochs=1)


@pytest.fixture(scope="module")
def trained(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    config = TrainConfig(widths="8,32,32", epochs=1, batch_size=24)
    return Cache(tmp_path_factory.mktemp("cache")).run(train, config, splits)


def saved(folder: Path, trained: Trained, **changes: object) -> Path:
    """A checkpoint's folder, with another contract where asked."""
    folder.mkdir()
    contract = dataclasses.replace(trained.checkpoint.contract, **changes)  # type: ignore[arg-type]
    checkpoint = dataclasses.replace(trained.checkpoint, contract=contract)
    save_result(folder, dataclasses.replace(trained, checkpoint=checkpoint))
    return folder


def test_a_teacher_is_any_checkpoint_for_the_same_images(
    trained: Trained, splits: Splits, tmp_path: Path
) -> None:
    assert find_teacher(PruneConfig(), splits) is None
    folder = saved(tmp_path / "teacher", trained)
    found = find_teacher(PruneConfig(teacher=str(folder)), splits)
    assert found is not None
    assert found.weights.sha256 == trained.checkpoint.weights.sha256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("blue", "red")}, "knows 2 classes, the data has 3"),
        ({"classes": ("blue", "green", "rot")}, "knows 3 classes, the data has 3, or others"),
        ({"height": 24}, "takes 24x20 pixels, the data has 20x20"),
        ({"scale": 1 / 128}, "scaled in another way"),
    ],
)
def test_a_teacher_for_other_images_is_refused(
    trained: Trained, splits: Splits, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    folder = saved(tmp_path / "teacher", trained, **changes)
    with pytest.raises(ModelError, match=message):
        find_teacher(PruneConfig(teacher=str(folder)), splits)


def test_a_folder_without_a_checkpoint_is_no_teacher(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a checkpoint"):
        find_teacher(PruneConfig(teacher=str(tmp_path)), splits)


@pytest.mark.parametrize(
    ("config", "shared"), [(QUICK, True), (dataclasses.replace(QUICK, max_kb=15.0), False)]
)
def test_targets_share_a_network_unless_their_files_decide_it(
    trained: Trained,
    splits: Splits,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: PruneConfig,
    shared: bool,
) -> None:
    monkeypatch.setattr("exporter.pruning.budget.file_size_between", lambda *_: count_parameters)
    cache = Cache(tmp_path / "cache")
    for target in (TARGET, OTHER):
        small_network(cache, config, target, trained, splits, None)
    assert [run.cached for run in cache.runs] == [False, shared]


def test_another_machine_has_another_network_for_a_budget_in_milliseconds(
    trained: Trained, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    monkeypatch.setattr("exporter.pruning.budget.estimate_ms", lambda *_, folder: 0.01)
    config = dataclasses.replace(QUICK, max_ms=0.05)
    for machine in ("here", "here", "there"):
        monkeypatch.setattr(module, "machine_key", lambda machine=machine: machine)
        small_network(cache, config, TARGET, trained, splits, None)
    assert [run.cached for run in cache.runs] == [False, True, False]


def test_a_scan_comes_first_where_it_decides(
    trained: Trained, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    monkeypatch.setattr("exporter.pruning.sensitivity.estimate_ms", lambda *_, folder: 0.01)
    config = dataclasses.replace(QUICK, allocate="sensitivity", scan_shares="0.5")
    pruned = small_network(cache, config, TARGET, trained, splits, None)
    assert [run.name for run in cache.runs] == ["scan", "prune"]
    assert pruned.removed > 0
