from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from calibration import ArrayStream, Ranges, collect_ranges
from exporter.artifacts import Artifact
from exporter.contract import INPUT_NAME
from exporter.data.splits import Split, Splits
from exporter.graph.limits import read_model
from exporter.graph.model import OnnxModel
from exporter.quantization.aware.learn import RoundingLearned, learn_rounding, rounding_lesson
from exporter.quantization.aware.simulation import Simulation
from exporter.quantization.quantize import QuantizedModel, quantize
from exporter.targets import find_target
from exporter.training.augmentation import Augmentation, normalise
from exporter.training.loop import Lesson
from tests.graph import networks

LESSON = Lesson(
    epochs=1,
    batch_size=16,
    learning_rate=0.24,
    label_smoothing=0.0,
    augmentation=Augmentation(flip=True, translate=1, cutout=0),
    seed=0,
    distill=0.7,
)
AGREEMENT = 0.995


def correct(file: Path, split: Split) -> float:
    images, labels = split.arrays()
    return float((networks.run(file, np.array(images)).argmax(1) == labels).mean())


@dataclasses.dataclass(frozen=True)
class Before:
    model: OnnxModel
    ranges: Artifact
    int8: QuantizedModel


@pytest.fixture(scope="module")
def before(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Before:
    """A network that nobody has trained."""
    folder = tmp_path_factory.mktemp("before")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU(),
            nn.AvgPool2d(5), nn.Flatten(), nn.Linear(16, 3),
        )  # fmt: skip
    model = networks.exported(module.eval(), folder / "float", splits.contract)
    images, _ = splits.calibration.arrays()
    stream = ArrayStream(samples=np.array(images), input_name=INPUT_NAME, batch_size=16)
    path = folder / "ranges.json"
    path.write_text(collect_ranges(model.file.path, stream, ["minmax"])["minmax"].to_json())
    ranges = Artifact.of(path)
    int8 = quantize(folder, find_target("cpu-int8"), model, ranges, "minmax")
    return Before(model=model, ranges=ranges, int8=int8)


Learner = Callable[[Path], RoundingLearned]


@pytest.fixture(scope="module")
def learn(before: Before, splits: Splits) -> Learner:
    # From labels alone: its float form knows nothing that it could teach.
    lesson = dataclasses.replace(rounding_lesson(LESSON, epochs=20), distill=0.0)

    def run(out: Path) -> RoundingLearned:
        out.mkdir()
        return learn_rounding(out, lesson, before.model, before.int8, before.ranges, splits)

    return run


@pytest.fixture(scope="module")
def learned(learn: Learner, tmp_path_factory: pytest.TempPathFactory) -> RoundingLearned:
    return learn(tmp_path_factory.mktemp("learned") / "stage")


def test_the_file_with_the_learned_weights_knows_more(
    before: Before, learned: RoundingLearned, splits: Splits, tmp_path: Path
) -> None:
    after = quantize(tmp_path, find_target("cpu-int8"), learned.model, learned.ranges, "minmax")

    assert after.coverage.floating == {}
    assert correct(after.file.path, splits.test) > correct(before.int8.file.path, splits.test)
    assert correct(after.file.path, splits.test) > 0.6


def test_torch_and_the_file_agree_after_learning(
    learned: RoundingLearned, splits: Splits, tmp_path: Path
) -> None:
    after = quantize(tmp_path, find_target("cpu-int8"), learned.model, learned.ranges, "minmax")
    images, _ = splits.train.arrays()
    simulation = Simulation(
        read_model(after.file.path), read_model(learned.model.file.path), learned.model.contract,
        seven_bit=frozenset(after.seven_bit_layers),
    )  # fmt: skip

    with torch.no_grad():
        pixels = normalise(torch.from_numpy(np.array(images)), learned.model.contract)
        found = simulation(pixels).numpy()

    wanted = networks.run(after.file.path, np.array(images))
    assert (found.argmax(1) == wanted.argmax(1)).mean() >= AGREEMENT
    assert learned.history.epochs[-1].loss < learned.history.epochs[0].loss
    told = max(entry.validation_top1 for entry in learned.history.epochs) / 100
    assert correct(after.file.path, splits.validation) == pytest.approx(told, abs=1 / 30 + 1e-9)


def test_scales_have_moved_and_are_those_of_the_new_file(
    before: Before, learned: RoundingLearned
) -> None:
    old = Ranges.from_json(before.ranges.path.read_text())
    new = Ranges.from_json(learned.ranges.path.read_text())

    assert old.by_tensor.keys() == new.by_tensor.keys()
    assert new.model_digest == learned.model.file.sha256 != old.model_digest
    widths = [
        (old.by_tensor[name].high - old.by_tensor[name].low) / (entry.high - entry.low)
        for name, entry in new.by_tensor.items()
        if entry.high > entry.low
    ]
    assert any(abs(ratio - 1) > 1e-3 for ratio in widths)


def test_the_float_network_teaches_a_file_with_bad_ranges(
    before: Before, splits: Splits, tmp_path: Path
) -> None:
    good = Ranges.from_json(before.ranges.path.read_text())
    clipped = {
        name: dataclasses.replace(entry, low=entry.low / 1.5, high=entry.high / 1.5)
        for name, entry in good.by_tensor.items()
    }
    path = tmp_path / "clipped.json"
    path.write_text(dataclasses.replace(good, by_tensor=clipped).to_json())
    ranges = Artifact.of(path)
    (tmp_path / "int8").mkdir()
    (tmp_path / "stage").mkdir()
    (tmp_path / "after").mkdir()
    int8 = quantize(tmp_path / "int8", find_target("cpu-int8"), before.model, ranges, "minmax")

    lesson = rounding_lesson(LESSON, epochs=30)
    assert (lesson.distill, lesson.temperature) == (1.0, 1.0)
    learned = learn_rounding(tmp_path / "stage", lesson, before.model, int8, ranges, splits)
    after = quantize(
        tmp_path / "after", find_target("cpu-int8"), learned.model, learned.ranges, "minmax"
    )

    images = np.array(splits.test.arrays()[0])
    exact = networks.run(before.model.file.path, images)
    changes = [
        float(np.abs(networks.run(file, images) - exact).mean())
        for file in (int8.file.path, after.file.path)
    ]
    assert changes[1] < 0.7 * changes[0]


def test_the_same_lesson_gives_the_same_bytes(
    learn: Learner, learned: RoundingLearned, tmp_path: Path
) -> None:
    again = learn(tmp_path / "again")

    assert again.model.file.sha256 == learned.model.file.sha256
    assert again.ranges.sha256 == learned.ranges.sha256
