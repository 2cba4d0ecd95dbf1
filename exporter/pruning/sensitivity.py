"""Stage: how much of each group of channels the network can lose, one group at a time.

Of one group the channels that score lowest are removed, all other groups stay whole; batch-norms
are measured anew and nothing is fine-tuned (Li et al., ICLR 2017, arXiv 1608.08710, section 3.2).
The validation images tell what that costs, and the layers' times what it brings.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from torch import nn

from exporter.artifacts import RESUME
from exporter.checkpoint import Checkpoint, restore
from exporter.config import PruneConfig
from exporter.contract import InputContract
from exporter.data.splits import Splits
from exporter.progress import track
from exporter.pruning.allocation import Curve
from exporter.pruning.batches import batches_to_score
from exporter.pruning.cost import count_macs
from exporter.pruning.criteria import find_criterion
from exporter.pruning.group import Group
from exporter.pruning.groups import find_groups
from exporter.pruning.layer_times import estimate_ms
from exporter.pruning.scores import score_channels
from exporter.pruning.shrink import shrink_groups
from exporter.pruning.threshold import rounded_width, strongest, width_multiple
from exporter.targets import Target
from exporter.training.batch_norm import reestimate_batch_norms
from exporter.training.loop import evaluate

VERSION = 2

POINTS = "points.jsonl"
"""What a killed scan has found so far, a line per point, in the stage's ``resume`` folder."""

Estimate = Callable[[nn.Module, InputContract, Target], float]
"""The expected milliseconds of a network, see ``estimate_ms``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanConfig:
    """The part of ``PruneConfig`` that shapes a scan."""

    criterion: str
    alpha: float
    shares: tuple[float, ...]
    """Shares of a group's channels that are tried, each in (0, 1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """The network with one group cut to one width."""

    width: int
    """Channels of the group that are left."""
    share: float
    """Share of the group's channels that is gone, after rounding."""
    top1: float
    """On the validation images, in percent, without fine-tuning."""
    macs: int
    """Multiply-accumulates of one image."""
    ms: float = field(compare=False)
    """Expected time of one image in the int8 file, one thread, on the machine that scanned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupScan:
    """What one group can lose."""

    name: str
    width: int
    """Channels it has."""
    points: tuple[Point, ...]
    """By rising share; none where the group is too narrow to lose a multiple of channels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensitivity:
    """What every group can lose on its own."""

    criterion: str
    target: str
    images: int
    """Validation images."""
    top1: float
    """Of the whole network, with its batch-norms measured anew like those of the cut ones."""
    macs: int
    """Of the whole network, like the next one."""
    ms: float = field(compare=False)
    groups: tuple[GroupScan, ...]
    """In the network's order."""

    @property
    def curves(self) -> Mapping[str, Curve]:
        """Return by group, by rising share: the share and the percentage points it costs."""
        return {
            group.name: tuple((point.share, self.top1 - point.top1) for point in group.points)
            for group in self.groups
        }


def scan(
    out: Path,
    config: ScanConfig,
    target: Target,
    checkpoint: Checkpoint,
    data: Splits,
    machine: str,
    *,
    estimate: Estimate | None = None,
) -> Sensitivity:
    """Return the validation accuracy, the work and the time of every group's reduced widths.

    A scan that was killed continues with the first point that it has not finished.

    Args:
        out: folder of the stage; it holds the points while the scan is running.
        config: the score that picks the channels, and the shares.
        target: its channel multiple rounds the widths, and it is what times are expected for.
        checkpoint: the network, dense or pruned before.
        data: calibration images are scored on, training images set batch-norms, validation
            images judge.
        machine: ``layer_times.machine_key()``; part of the cache's key, since another machine has
            other times.
        estimate: expected times; ``estimate_ms`` with its table beside ``out`` where None.

    Raises:
        ConfigError: the criterion is unknown or not made for this network.
        OutputError: the table of layer times cannot be written.
    """
    criterion = find_criterion(config.criterion, "channels")
    expected_ms = estimate or partial(estimate_ms, folder=out.parent)
    dense = restore(checkpoint)
    groups = find_groups(dense, data.contract)
    scores = score_channels(
        criterion,
        dense,
        groups,
        batches_to_score(data.calibration, data.contract),
        alpha=config.alpha,
    )
    widths = {
        group.name: widths_to_try(
            group.width, config.shares, width_multiple(group, target.channel_multiple)
        )
        for group in groups
    }
    done = _Done(out / RESUME / POINTS)
    with track("Scanning", total=sum(map(len, widths.values()))) as advance:
        for group in groups:
            for width in widths[group.name]:
                point = done.find(group.name, width)
                if point is None:
                    small = _cut(dense, group, strongest(scores[group.name], width), data)
                    point = Point(
                        width=width,
                        share=1 - width / group.width,
                        top1=evaluate(small, data.contract, data.validation),
                        macs=count_macs(small, data.contract),
                        ms=expected_ms(small, data.contract, target),
                    )
                    done.add(group.name, point)
                advance(1, f"{group.name} {width}: {point.top1:.2f} %")
    reestimate_batch_norms(dense, data.contract, data.train)
    return Sensitivity(
        criterion=config.criterion,
        target=target.name,
        images=data.validation.count,
        top1=evaluate(dense, data.contract, data.validation),
        macs=count_macs(dense, data.contract),
        ms=expected_ms(dense, data.contract, target),
        groups=tuple(
            GroupScan(
                name=group.name,
                width=group.width,
                points=tuple(done.points[group.name, width] for width in widths[group.name]),
            )
            for group in groups
        ),
    )


def scan_config(config: PruneConfig) -> ScanConfig:
    """Return what ``config`` says about a scan; raises ConfigError where a share is none."""
    return ScanConfig(criterion=config.criterion, alpha=config.alpha, shares=config.shares_to_scan)


def widths_to_try(width: int, shares: Sequence[float], multiple: int) -> tuple[int, ...]:
    """Return the widths that are left without ``shares``, rounded as pruning does, falling.

    Shares that round to the same width, or to the whole of it, count once or not at all.
    """
    rounded = {rounded_width(int(width * (1 - share) + 0.5), width, multiple) for share in shares}
    return tuple(sorted(rounded - {width}, reverse=True))


def _cut(dense: nn.Module, group: Group, kept: tuple[int, ...], data: Splits) -> nn.Module:
    small = copy.deepcopy(dense)
    shrink_groups(small, (group,), {group.name: kept})
    reestimate_batch_norms(small, data.contract, data.train)
    return small


class _Done:
    """The points that are known, in memory and on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.points: dict[tuple[str, int], Point] = {}
        path.parent.mkdir(exist_ok=True)
        lines = path.read_bytes().splitlines() if path.exists() else []
        for line in lines:
            with suppress(ValidationError):  # a kill may have cut the last line
                group, point = _Line.validate_json(line)
                self.points[group, point.width] = point

    def find(self, group: str, width: int) -> Point | None:
        return self.points.get((group, width))

    def add(self, group: str, point: Point) -> None:
        self.points[group, point.width] = point
        with self._path.open("ab") as file:
            file.write(b"\n" + _Line.dump_json((group, point)))  # the line before may be torn


_Line = TypeAdapter(tuple[str, Point])
