"""`compare`: finished models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter.artifacts import Cache
from exporter.cli.answer import Answer, to_json
from exporter.cli.command import command
from exporter.config import BuildConfig

if TYPE_CHECKING:
    from exporter.verification.side_by_side import AgainstFirst, SideBySide


@command("data", "verify.threads", "verify.timing_seconds")
def compare(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL MODEL [MODEL ...]",
            help=".onnx or .ort files; all are compared with the first.",
            show_default=False,
        ),
    ],
    config: BuildConfig,
    cache: Cache,
) -> Answer:
    """Compare any finished models on the same test images, in one interleaved timing."""
    from exporter.verification.side_by_side import compare_files

    found = compare_files(models, config.data, config.verify, cache)
    return Answer(json=to_json(found), draw=lambda console: draw(found, console))


def draw(found: SideBySide, console: Console) -> None:
    """Show one row per model, and below it what the figures rest on."""
    from exporter.report.verdict import factor, milliseconds, size

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("model", overflow="fold")
    for heading in ("top-1", "points lost", "p", "size", "p50", "speed-up"):
        table.add_column(heading, justify="right")
    names = distinct_names([model.path for model in found.models])
    for name, model in zip(names, found.models, strict=True):
        lost, p, faster = _against(model.against_first)
        table.add_row(
            Text(name),
            f"{model.top1:.2f} %",
            lost,
            p,
            size(model.bytes),
            milliseconds(model.p50_ms),
            faster,
        )
    console.print(table)
    console.print(
        Text(
            f"{found.images:,} test images of {found.source}; one image at a time, threads: "
            f"{found.threads}, {found.machine.cpu}. Against the first, with 95 % confidence "
            f"intervals; p: exact McNemar test (Bonferroni). The first file timed twice differs "
            f"from itself by up to {factor(found.noise)}.",
            style="dim",
        )
    )


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Return the shortest ends of different paths that tell all of them apart."""
    parts = [Path(path).parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = [str(Path(*part[-length:])) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def _against(found: AgainstFirst | None) -> tuple[str, str, str]:
    from exporter.report.accuracy import p_value, points
    from exporter.report.verdict import times

    if found is None:
        return "", "", ""
    low, high = map(points, found.drop_ci)
    slow, fast = map(times, found.speedup_ci)
    return (
        f"{points(found.drop_points)}\n{low} to {high}",
        p_value(found.mcnemar_p),
        f"{times(found.speedup)}x\n{slow} to {fast}"
        if found.beyond_noise
        else "none\nin the noise",
    )
