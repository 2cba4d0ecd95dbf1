"""The scan against pruning by hand, continued after a kill, and its picture."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
from PIL import Image
from torch import nn

from exporter.artifacts import Cache, digest
from exporter.checkpoint import restore
from exporter.config import PruneConfig, TrainConfig
from exporter.contract import InputContract
from exporter.data.splits import Splits
from exporter.errors import ConfigError
from exporter.pruning.batches import batches_of
from exporter.pruning.cost import count_macs
from exporter.pruning.criteria import CRITERIA
from exporter.pruning.groups import find_groups
from exporter.pruning.scores import score_channels
from exporter.pruning.sensitivity import (
    GroupScan,
    Point,
    ScanConfig,
    Sensitivity,
    scan,
    scan_config,
    widths_to_try,
)
from exporter.pruning.sensitivity_plot import plot_sensitivity
from exporter.pruning.shrink import shrink_groups
from exporter.targets import Target, find_target
from exporter.training.batch_norm import reestimate_batch_norms
from exporter.training.loop import evaluate
from exporter.training.train import Trained, train

TARGET = dataclasses.replace(find_target("cpu-int8"), channel_multiple=4)
CONFIG = ScanConfig(criterion="l1", alpha=1.0, shares=(0.25, 0.5))


def parameters(module: nn.Module, contract: InputContract, target: Target) -> float:
    """Stand in for the milliseconds."""
    return float(sum(parameter.numel() for parameter in module.parameters()))


@pytest.fixture(scope="module")
def trained(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    config = TrainConfig(widths="8,16,16", epochs=3, batch_size=24)
    return Cache(tmp_path_factory.mktemp("cache")).run(train, config, splits)


@pytest.fixture(scope="module")
def found(
    trained: Trained, splits: Splits, tmp_path_factory: pytest.TempPathFactory
) -> Sensitivity:
    out = tmp_path_factory.mktemp("scan")
    return scan(out, CONFIG, TARGET, trained.checkpoint, splits, "here", estimate=parameters)


def test_every_group_is_cut_to_every_width(found: Sensitivity) -> None:
    assert [(group.name, group.width) for group in found.groups] == [
        ("blocks.0.conv1", 8), ("blocks.0.conv2", 8), ("blocks.1.conv1", 16),
        ("blocks.1.conv2", 16), ("blocks.2.conv1", 16), ("blocks.2.conv2", 16),
    ]  # fmt: skip
    for group in found.groups:
        widths = [point.width for point in group.points]
        assert widths == ([4] if group.width == 8 else [12, 8])
        assert [point.share for point in group.points] == [1 - w / group.width for w in widths]
        assert all(0 <= point.top1 <= 100 for point in group.points)
    assert found.images == 30


def test_one_point_by_hand(found: Sensitivity, trained: Trained, splits: Splits) -> None:
    module = restore(trained.checkpoint)
    contract = splits.contract
    whole = copy.deepcopy(module)
    reestimate_batch_norms(whole, contract, splits.train)
    assert found.top1 == evaluate(whole, contract, splits.validation)
    assert found.macs == count_macs(module, contract)
    assert found.ms == parameters(module, contract, TARGET)

    groups = find_groups(module, contract)
    scores = score_channels(
        CRITERIA["l1"], module, groups, batches_of(splits.calibration, contract)
    )
    (group,) = (group for group in groups if group.name == "blocks.1.conv1")
    order = scores[group.name].argsort(descending=True)
    small = copy.deepcopy(module)
    shrink_groups(small, (group,), {group.name: tuple(sorted(order[:8].tolist()))})
    reestimate_batch_norms(small, contract, splits.train)
    (point,) = (point for point in found.groups[2].points if point.width == 8)
    assert small.get_parameter("blocks.1.conv2.weight").shape == (16, 8, 3, 3)
    assert point == Point(
        width=8,
        share=0.5,
        top1=evaluate(small, contract, splits.validation),
        macs=count_macs(small, contract),
        ms=0.0,  # never compared
    )
    assert point.ms == parameters(small, contract, TARGET)
    # Eight filters of conv1 over 8 channels, on 9x9 pixels, and what conv2's 16 read, on 4x4.
    assert found.macs - point.macs == 8 * 9 * (81 * 8 + 16 * 16)


def test_a_killed_scan_continues(
    found: Sensitivity, trained: Trained, splits: Splits, tmp_path: Path
) -> None:
    measured = 0

    def stops(module: nn.Module, contract: InputContract, target: Target) -> float:
        nonlocal measured
        if measured == 3:
            raise KeyboardInterrupt
        measured += 1
        return parameters(module, contract, target)

    def counts(module: nn.Module, contract: InputContract, target: Target) -> float:
        nonlocal measured
        measured += 1
        return parameters(module, contract, target)

    checkpoint = trained.checkpoint
    with pytest.raises(KeyboardInterrupt):
        scan(tmp_path, CONFIG, TARGET, checkpoint, splits, "here", estimate=stops)
    (points,) = (tmp_path / "resume").iterdir()
    points.write_bytes(points.read_bytes() + b'\n["blocks.1.conv1", {"wid')  # torn by the kill
    measured = 0
    again = scan(tmp_path, CONFIG, TARGET, checkpoint, splits, "here", estimate=counts)
    assert again == found
    assert measured == 10 - 3 + 1  # ten points in all, and the whole network
    measured = 0
    assert scan(tmp_path, CONFIG, TARGET, checkpoint, splits, "here", estimate=counts) == found
    assert measured == 1


def test_curves_are_losses_by_share() -> None:
    sensitivity = sample()
    assert sensitivity.curves == {"a": ((0.25, 0.5), (0.5, 4.0)), "b": ()}
    slower = dataclasses.replace(sensitivity, ms=9.0)
    assert digest(slower) == digest(sensitivity)  # times decide nothing that is cached


@pytest.mark.parametrize(
    ("width", "multiple", "expected"),
    [
        (128, 16, (112, 96, 64, 32, 16)),
        (32, 16, (16,)),
        (16, 16, ()),
        (10, 16, ()),
        (50, 16, (48, 32, 16)),
        (10, 1, (9, 8, 5, 3, 1)),
    ],
)
def test_widths_are_rounded_and_count_once(
    width: int, multiple: int, expected: tuple[int, ...]
) -> None:
    assert widths_to_try(width, (0.9, 0.1, 0.25, 0.5, 0.75), multiple) == expected


def test_shares_come_from_the_options() -> None:
    config = scan_config(PruneConfig(criterion="l2", alpha=0.5, scan_shares="0.5, 0.9"))
    assert config == ScanConfig(criterion="l2", alpha=0.5, shares=(0.5, 0.9))


@pytest.mark.parametrize("text", ["", "half", "0.5,", "0", "1", "-0.1,0.5", "nan"])
def test_shares_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--scan-shares takes numbers between 0 and 1"):
        scan_config(PruneConfig(scan_shares=text))


def test_the_picture_is_light_and_shows_both_lines(tmp_path: Path) -> None:
    plot_sensitivity(sample(), tmp_path / "scan.png")
    with Image.open(tmp_path / "scan.png") as picture:
        pixels = picture.convert("RGB")
        colours = {colour: count for count, colour in pixels.getcolors(1 << 24) or ()}
        assert max(colours, key=colours.__getitem__) == (255, 255, 255)
        assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colours.keys()


def sample() -> Sensitivity:
    points = (
        Point(width=12, share=0.25, top1=89.5, macs=800, ms=0.9),
        Point(width=8, share=0.5, top1=86.0, macs=600, ms=0.7),
    )
    return Sensitivity(
        criterion="l1",
        target="cpu-int8",
        images=200,
        top1=90.0,
        macs=1000,
        ms=1.0,
        groups=(
            GroupScan(name="a", width=16, points=points),
            GroupScan(name="b", width=4, points=()),
        ),
    )
