"""A picture of a sensitivity scan: a panel per group, accuracy and time against what is removed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.pruning.sensitivity import GroupScan, Sensitivity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS = 6
PANEL_INCHES = (2.5, 2.1)
LONGEST_NAME = 24
"""Letters that fit over a panel; of longer names the end is shown."""
DOTS_PER_INCH = 150
ACCURACY, TIME = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe and Ito's palette, which colour-blind people tell apart; the markers
differ, too."""


def plot_sensitivity(found: Sensitivity, path: Path) -> None:
    """Write the picture to ``path``, in the format its suffix names (.png, .svg)."""
    from matplotlib.figure import Figure  # takes a second to load; not pyplot, which keeps state

    count = max(1, len(found.groups))
    columns = min(MOST_COLUMNS, math.ceil(math.sqrt(count)))
    rows = math.ceil(count / columns)
    figure = Figure(
        figsize=(columns * PANEL_INCHES[0], rows * PANEL_INCHES[1] + 0.6),
        layout="constrained",
        facecolor="white",
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, group in zip(panels, found.groups, strict=False):
        _draw(panel, group, found)
    for panel in panels[len(found.groups) :]:
        panel.set_axis_off()
    for panel in panels[:count][-columns:]:  # also where the row below is not full
        panel.tick_params(labelbottom=True)
    figure.supxlabel("channels removed from this layer alone, %", fontsize=9)
    figure.supylabel("%", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _draw(panel: Axes, group: GroupScan, found: Sensitivity) -> None:
    removed = [0.0, *(100 * point.share for point in group.points)]
    top1 = [found.top1, *(point.top1 for point in group.points)]
    time = [100.0, *(100 * point.ms / found.ms for point in group.points)]
    panel.axhline(found.top1, color="0.75", linewidth=0.8, zorder=0)
    panel.plot(
        removed, time, "s--", color=TIME, markersize=3.5, linewidth=1.2,
        label="expected time of the int8 file, % of now",
    )  # fmt: skip
    panel.plot(
        removed, top1, "o-", color=ACCURACY, markersize=4, linewidth=1.6,
        label="top-1 on validation images, %, not fine-tuned",
    )  # fmt: skip
    name = group.name if len(group.name) <= LONGEST_NAME else "…" + group.name[1 - LONGEST_NAME :]
    panel.set_title(f"{name} ({group.width})", fontsize=8, family="monospace")
    panel.set_xlim(-4, 104)
    panel.set_ylim(0, 105)
    panel.set_xticks([0, 25, 50, 75, 100])
    panel.set_yticks([0, 25, 50, 75, 100])
    panel.tick_params(labelsize=7)
    panel.grid(color="0.92", linewidth=0.6)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
