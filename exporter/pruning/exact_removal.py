"""What goes before the first round: channels whose removal changes nothing."""

from __future__ import annotations

import torch

from exporter.errors import GraphError
from exporter.pruning.batches import batches_of
from exporter.pruning.checked_removal import TOLERANCE, remove_channels
from exporter.pruning.dead import find_dead, fold_constants
from exporter.pruning.groups import find_groups
from exporter.pruning.rounds import Rules, Work, probe_of
from exporter.pruning.threshold import width_multiple


def remove_dead_channels(work: Work, rules: Rules) -> int:
    """Remove dead channels as far as widths stay what the target likes; return how many went.

    Those that are left over, less than one multiple per group, cost nothing to keep: a width in
    between would be slower.

    Raises:
        GraphError: the network changed.
    """
    data = rules.data
    groups = find_groups(work.module, data.contract)
    dead = find_dead(
        work.module, groups, data.contract, batches_of(data.calibration, data.contract)
    )
    going: dict[str, tuple[int, ...]] = {}
    for group in groups:
        multiple = width_multiple(group, rules.channel_multiple)
        alive = group.width - len(dead[group.name])
        width = min(group.width, -(-alive // multiple) * multiple)
        going[group.name] = dead[group.name][: group.width - width]
    count = sum(map(len, going.values()))
    if count == 0:
        return 0
    kept = {
        group.name: tuple(c for c in range(group.width) if c not in going[group.name])
        for group in groups
    }
    probe = probe_of(data)
    with torch.no_grad():
        before = work.module(probe)
        fold_constants(work.module, groups, going, data.contract)
        remove_channels(work.module, groups, kept, probe)
        after = work.module(probe)
    error = float((after - before).abs().max() / before.abs().max().clamp(min=1e-12))
    if not error <= TOLERANCE:
        raise GraphError(
            f"Removing channels that seemed dead changed the network by {error:.1e} of the largest "
            f"logit (limit {TOLERANCE:.0e}). Use --unit weights for this network."
        )
    work.keep(kept)
    return count
