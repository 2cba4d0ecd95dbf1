"""How the removal and the fine-tuning are spread over rounds."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["one-shot", "linear", "cubic", "geometric"]


def share_after(schedule: Schedule, final: float, done: int, rounds: int) -> float:
    """Return the share that is gone after ``done`` of ``rounds`` rounds, of what the network had.

    ``linear`` removes the same number of channels in every round. ``cubic`` removes most of them
    early, while many are redundant: ``final * (1 - (1 - done / rounds) ** 3)`` (Zhu and Gupta 2017,
    arXiv 1710.01878, equation 1 from a dense start). ``geometric`` removes the same share of what
    is left (as Frankle and Carbin, ICLR 2019, arXiv 1803.03635, do).
    """
    if done == rounds:
        return final
    progress = done / rounds
    if schedule == "cubic":
        return final * (1 - (1 - progress) ** 3)
    if schedule == "geometric":
        return 1 - math.pow(1 - final, progress)
    return final * progress


def epochs_of_rounds(total: int, rounds: int) -> tuple[int, ...]:
    """Return the epochs of fine-tuning that each round gets.

    The last round gets half of them: its network is the one that ships, and it is the only one
    whose learning rate has to fall slowly. The rounds before only have to recover as far as the
    next scores need it, and share the other half evenly.
    """
    early = total // 2 if rounds > 1 else 0
    before = rounds - 1
    return (
        *(early * (index + 1) // before - early * index // before for index in range(before)),
        total - early,
    )
