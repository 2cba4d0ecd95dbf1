"""`tune` and `worker`: the search for the best artifact."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter.artifacts import Cache
from exporter.cli.answer import Answer, facts, to_json
from exporter.cli.command import command
from exporter.cli.session import FAILED_GATE
from exporter.config import BuildConfig
from exporter.errors import ConfigError

if TYPE_CHECKING:
    from exporter.tuning.report import TuneReport

Budget = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="How long to search, such as 90s, 30m or 2h. No trial starts later; winners are "
        "built afterwards.",
    ),
]
Trials = Annotated[
    int, typer.Option(min=0, help="Trials of this run at most. \\[default: no limit]")
]
Storage = Annotated[
    str,
    typer.Option(
        metavar="URL",
        help="Where trials are kept: sqlite:///FILE, postgresql+psycopg://USER@HOST/DATABASE, or "
        "grpc://HOST:PORT of Optuna's proxy. \\[default: search.db in the output folder]",
    ),
]
Name = Annotated[str, typer.Option(metavar="NAME", help="Name of the search in its storage.")]
MaxMs = Annotated[
    float,
    typer.Option(
        min=0, help="Longest time of one image on one thread, in milliseconds. \\[default: any]"
    ),
]
MaxKb = Annotated[float, typer.Option(min=0, help="Largest file, in 1000 bytes. \\[default: any]")]
Networks = Annotated[
    str,
    typer.Option(
        metavar="WIDTHS;WIDTHS",
        help="Dense networks to choose from, by their --widths; each is trained once. "
        "\\[default: the one of --widths]",
    ),
]
Winners = Annotated[
    int, typer.Option(min=0, help="Artifacts of the frontier to build and verify in full.")
]
QuickShare = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.9,
        help="Share of fine-tuning after which trials that lie far behind stop; 0 for never.",
    ),
]
SearchSeed = Annotated[int, typer.Option(min=0, help="Seed of what is proposed.")]


@command("target", "out", "data", "train", "prune.finetune_epochs", "calibrate", "verify")
def tune(
    config: BuildConfig,
    cache: Cache,
    budget: Budget = "30m",
    trials: Trials = 0,
    max_ms: MaxMs = 0.0,
    max_kb: MaxKb = 0.0,
    networks: Networks = "",
    winners: Winners = 3,
    quick_share: QuickShare = 0.25,
    storage: Storage = "",
    name: Name = "search",
    search_seed: SearchSeed = 0,
) -> Answer:
    """Search for the most accurate, fastest and smallest artifacts; build and verify the best."""
    check_installed()
    from exporter.tuning.tune import Place
    from exporter.tuning.tune import tune as tuned
    from exporter.tuning.wish import Wish, budget_seconds, width_choices

    widths = width_choices(networks)
    if widths:
        train = dataclasses.replace(config.train, widths=widths[0])
        config = dataclasses.replace(config, train=train)
    wish = Wish(
        seconds=budget_seconds(budget),
        trials=trials,
        max_drop=config.verify.max_drop,
        max_ms=max_ms,
        max_kb=max_kb,
        widths=widths,
        quick_share=quick_share,
        seed=search_seed,
    )
    report = tuned(config, wish, Place(storage=storage, name=name), winners, cache)
    met = bool(report.frontier) and all(winner.passed for winner in report.winners)
    return Answer(
        json=to_json(report),
        draw=lambda console: draw(report, config.out, console),
        code=0 if met else FAILED_GATE,
    )


@command("data.data")
def worker(
    config: BuildConfig,
    cache: Cache,
    storage: Storage = "",
    name: Name = "search",
    budget: Budget = "30m",
    trials: Trials = 0,
) -> Answer:
    """Join a search that `tune` has begun at a --storage, from this machine or another."""
    check_installed()
    from exporter.tuning.tune import Place, join
    from exporter.tuning.wish import budget_seconds

    data = config.data.data if config.data != BuildConfig().data else ""
    found = join(Place(storage=storage, name=name), budget_seconds(budget), trials, data, cache)
    return facts({"search": name, **found})


def check_installed() -> None:
    """Raise ConfigError where Optuna is missing."""
    if find_spec("optuna") is None:
        raise ConfigError(
            "A search needs Optuna, which is not installed: pip install 'edge-exporter[tune]'."
        )


def draw(report: TuneReport, out: str, console: Console) -> None:
    """Show the frontier, the winners and where they lie."""
    from exporter.tuning.report import HEADER, limits, nothing, on_frontier, row, summary

    console.print(Text(f"Wanted: {limits(report)}."))
    console.print(Text(summary(report)))
    if not report.frontier:
        console.print(Text(nothing(report)))
        return
    best = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in HEADER:
        best.add_column(heading, justify="right" if heading != "criterion" else "left")
    for point in on_frontier(report):
        best.add_row(*row(point))
    console.print(Text("\nBeaten by no other trial, on validation images:", style="bold"))
    console.print(best)
    console.print(Text("\nBuilt in full, on test images:", style="bold"))
    for winner in report.winners:
        console.print(
            Text(
                f"trial {winner.trial}: {winner.top1:.2f} %, {winner.drop:.2f} points lost, "
                f"{winner.kb:.0f} kB, {winner.speedup:.2f}x faster "
                f"({winner.speedup_ci[0]:.2f} to {winner.speedup_ci[1]:.2f}); "
                + (f"passed: {winner.bundle}" if winner.passed else "a gate failed")
            )
        )
    console.print(Text(f"Report: {out}/tune.md", style="dim"))
