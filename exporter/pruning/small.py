"""The small network of a build: the prune stage with all that its options call for."""

from __future__ import annotations

from pathlib import Path

from exporter.artifacts import Cache
from exporter.checkpoint import Checkpoint
from exporter.config import PruneConfig
from exporter.data.splits import Splits
from exporter.errors import ModelError
from exporter.finished import load_checkpoint
from exporter.pruning.cost import Device
from exporter.pruning.layer_times import machine_key
from exporter.pruning.prune import prune
from exporter.pruning.pruned import Pruned
from exporter.pruning.sensitivity import scan, scan_config
from exporter.targets import Target
from exporter.training.train import Trained


def small_network(
    cache: Cache,
    config: PruneConfig,
    target: Target,
    trained: Trained,
    data: Splits,
    teacher: Checkpoint | None,
) -> Pruned:
    """Return the pruned network; a target and a machine count only where the budget asks for them.

    Raises:
        ExporterError: the options cannot be honoured, see ``prune`` and ``scan``.
    """
    curves = None
    if config.allocate == "sensitivity":
        found = cache.run(
            scan, scan_config(config), target, trained.checkpoint, data, machine_key()
        )
        curves = found.curves
    return cache.run(
        prune,
        config,
        target.channel_multiple,
        trained,
        data,
        device=_device(config, target, cache.root),
        teacher=teacher,
        curves=curves,
    )


def find_teacher(config: PruneConfig, data: Splits) -> Checkpoint | None:
    """Return the checkpoint that ``--teacher`` names, None where the dense network teaches.

    Raises:
        ModelError: it is none, or its network was made for other images or classes.
    """
    if not config.teacher:
        return None
    teacher = load_checkpoint(Path(config.teacher).expanduser())
    known, wanted = teacher.contract, data.contract
    if known.classes != wanted.classes:
        raise ModelError(
            f"The --teacher {config.teacher} knows {len(known.classes)} classes, the data has "
            f"{len(wanted.classes)}, or others. Train it on the same data."
        )
    if known != wanted:
        raise ModelError(
            f"The --teacher {config.teacher} takes {known.height}x{known.width} pixels, the data "
            f"has {wanted.height}x{wanted.width}, or they are scaled in another way. Train it with "
            "the same --size and normalisation."
        )
    return teacher


def _device(config: PruneConfig, target: Target, cache: Path) -> Device | None:
    if config.max_ms:
        return Device(target=target, machine=machine_key(), times=cache)
    return Device(target=target, machine="", times=cache) if config.max_kb else None
