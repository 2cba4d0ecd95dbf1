"""Training learns, repeats itself to the bit, and continues after a kill."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from exporter.artifacts import RESUME
from exporter.checkpoint import restore
from exporter.config import TrainConfig
from exporter.data.splits import Splits
from exporter.errors import ConfigError
from exporter.models.choose import parse_widths
from exporter.models.family import ModelRef
from exporter.progress import Silent, shown_on
from exporter.training import loop
from exporter.training.augmentation import Augmentation, augment
from exporter.training.loop import Lesson, evaluate, fit
from exporter.training.optimizer import KernelAndRest
from exporter.training.train import default_epochs, fresh_network, train

CONFIG = TrainConfig(widths="8,16,16", epochs=4, batch_size=24, translate=1)
LESSON = Lesson(
    epochs=3,
    batch_size=24,
    learning_rate=0.1,
    label_smoothing=0.1,
    augmentation=Augmentation(flip=True, translate=1, cutout=0),
    seed=5,
)
MODEL = ModelRef(name="edge-vgg", widths=(8, 16, 16))


class KilledError(Exception):
    pass


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_it_learns_and_repeats_itself(splits: Splits, tmp_path: Path) -> None:
    trained = train(_folder(tmp_path / "a"), CONFIG, splits)
    again = train(_folder(tmp_path / "b"), CONFIG, splits)
    assert trained.checkpoint.weights.sha256 == again.checkpoint.weights.sha256
    assert trained.history.epochs[-1].validation_top1 > 90
    module = restore(trained.checkpoint)
    top1 = evaluate(module, splits.contract, splits.validation)
    assert top1 == trained.history.epochs[-1].validation_top1
    other = train(_folder(tmp_path / "c"), dataclasses.replace(CONFIG, seed=1), splits)
    assert other.checkpoint.weights.sha256 != trained.checkpoint.weights.sha256


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("killed_in", [1, 2])
@pytest.mark.parametrize("keep_best", [False, True])
def test_killed_and_continued_is_the_same_to_the_bit(
    splits: Splits,
    tmp_path: Path,
    killed_in: int,
    keep_best: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(resume: Path | None) -> dict[str, torch.Tensor]:
        module = fresh_network(MODEL, splits, 5)
        fit(
            module,
            LESSON,
            splits.contract,
            splits.train,
            splits.validation,
            title="t",
            keep_best=keep_best,
            resume=resume,
        )
        return weights_of(module)

    # The first epoch is the best, so the best weights have to survive the kill.
    monkeypatch.setattr(loop, "evaluate", Scripted([80.0, 60.0, 70.0]))
    whole = run(None)
    original = augment
    calls = 0

    def killing(*arguments: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 16 * killed_in + 2:  # an epoch has 16 steps
            raise KilledError
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "evaluate", Scripted([80.0, 60.0, 70.0]))
    monkeypatch.setattr(loop, "augment", killing)
    with pytest.raises(KilledError):
        run(tmp_path / RESUME)
    monkeypatch.setattr(loop, "augment", original)
    assert len(list((tmp_path / RESUME).iterdir())) == 1
    assert same(run(tmp_path / RESUME), whole)


class Scripted:
    """An evaluation that gives the scores it is told, and remembers the weights it saw."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = iter(scores)
        self.seen: list[dict[str, torch.Tensor]] = []

    def __call__(self, module: nn.Module, *rest: object, **options: object) -> float:
        self.seen.append(weights_of(module))
        return next(self.scores)


@pytest.mark.parametrize(
    ("scores", "best", "keep_best"),
    [
        ([90.0, 95.0, 80.0], 1, True),
        ([95.0, 80.0, 95.0], 2, True),
        ([95.0, 80.0, 90.0], 0, True),
        ([95.0, 80.0, 90.0], 2, False),
    ],
)
def test_the_best_epoch_on_validation_is_kept_where_asked(
    splits: Splits,
    monkeypatch: pytest.MonkeyPatch,
    scores: list[float],
    best: int,
    keep_best: bool,
) -> None:
    evaluation = Scripted(scores)
    monkeypatch.setattr(loop, "evaluate", evaluation)
    module = fresh_network(MODEL, splits, 5)
    fit(
        module,
        LESSON,
        splits.contract,
        splits.train,
        splits.validation,
        title="t",
        keep_best=keep_best,
    )
    found = weights_of(module)
    assert [same(found, seen) for seen in evaluation.seen] == [
        epoch == best for epoch in range(len(scores))
    ]


def test_a_time_budget_decides_the_epochs_once(splits: Splits, tmp_path: Path) -> None:
    lesson = dataclasses.replace(LESSON, epochs=10_000, minutes=0.02, batch_size=8)
    module = fresh_network(MODEL, splits, 0)
    with shown_on(Silent()):
        history = fit(
            module,
            lesson,
            splits.contract,
            splits.train,
            splits.validation,
            title="t",
            resume=tmp_path,
        )
    assert 1 <= len(history.epochs) < 1000
    again = fit(
        fresh_network(MODEL, splits, 0),
        lesson,
        splits.contract,
        splits.train,
        splits.validation,
        title="t",
        resume=tmp_path,
    )
    assert again.epochs == history.epochs


def test_the_teachers_opinion_counts(splits: Splits) -> None:
    def run(distill: float, teacher: nn.Module | None) -> dict[str, torch.Tensor]:
        module = fresh_network(MODEL, splits, 5)
        lesson = dataclasses.replace(LESSON, epochs=1, distill=distill, temperature=2.0)
        fit(
            module,
            lesson,
            splits.contract,
            splits.train,
            splits.validation,
            title="t",
            teacher=teacher,
        )
        return weights_of(module)

    teacher = fresh_network(MODEL, splits, 9).eval()
    before = weights_of(teacher)
    alone = run(0.0, None)
    assert same(alone, run(0.0, teacher))
    assert not same(alone, run(0.5, teacher))
    assert same(before, weights_of(teacher))


def test_muon_steps_kernels_by_an_orthogonal_matrix() -> None:
    """All singular values of a kernel's update are about equal, whatever the gradient's are."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 16, 3).to(memory_format=torch.channels_last)
    before = conv.weight.detach().clone()
    optimizer = KernelAndRest(conv)
    conv.weight.grad = torch.randn_like(conv.weight) * torch.logspace(0, -2, 16).view(16, 1, 1, 1)
    assert conv.bias is not None
    conv.bias.grad = torch.ones_like(conv.bias)
    optimizer.step(0.001)
    update = (conv.weight.detach() - before).flatten(1)
    singular = torch.linalg.svdvals(update)
    assert conv.weight.grad is None
    assert float(singular.max()) == pytest.approx(0.001, rel=0.4)
    assert float(singular.max() / singular[:8].min()) < 3


def test_filters_of_a_depthwise_convolution_step_on_their_own() -> None:
    """A filter without a gradient stays where it is, whatever its neighbours do."""
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 3, groups=8, bias=False)
    before = conv.weight.detach().clone()
    optimizer = KernelAndRest(conv)
    for part in optimizer._parts:
        for group in part.param_groups:
            group["weight_decay"] = 0.0
    conv.weight.grad = torch.randn_like(conv.weight)
    conv.weight.grad[3] = 0
    optimizer.step(0.1)
    moved = (conv.weight.detach() - before).abs().amax((1, 2, 3))
    assert conv.weight.grad is None
    assert float(moved[3]) == 0
    assert float(moved[torch.arange(8) != 3].min()) > 0


@pytest.mark.parametrize(
    ("images", "epochs"), [(1_000_000, 12), (50_000, 12), (45_000, 14), (30_000, 20), (1000, 24)]
)
def test_default_epochs(images: int, epochs: int) -> None:
    assert default_epochs(images) == epochs


def test_widths_that_are_no_numbers_are_refused() -> None:
    assert parse_widths("8,16") == (8, 16)
    assert parse_widths("") == ()
    with pytest.raises(ConfigError, match="'8,x'"):
        parse_widths("8,x")
