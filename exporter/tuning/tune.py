"""`tune`: search, then build the winners in full."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import optuna

from exporter.artifacts import Cache
from exporter.config import BuildConfig
from exporter.errors import ConfigError
from exporter.packing.place import check_writable
from exporter.pipeline import build, checked
from exporter.recipe import read_recipe, recipe_text
from exporter.targets import find_target
from exporter.tuning.bench import Bench
from exporter.tuning.frontier import Point, frontier, winners
from exporter.tuning.plot import plot_frontier
from exporter.tuning.report import TuneReport, Winner, markdown, to_json
from exporter.tuning.search import outcomes, points, search
from exporter.tuning.study import RECIPE, WISH, begin, open_study
from exporter.tuning.wish import Wish, read_wish
from exporter.verification.machine import describe_machine

STORAGE = "search.db"
NAME = "search"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a search is kept."""

    storage: str
    """A URL; empty for a SQLite file in the output folder."""
    name: str
    """Of the study there."""


def tune(
    config: BuildConfig, wish: Wish, place: Place, winners_wanted: int, cache: Cache
) -> TuneReport:
    """Search, and leave the winners' bundles, the report and the plot in ``config.out``.

    A search that is there already goes on.

    Args:
        config: what all trials have in common.
        wish: limits, and how long.
        place: where trials are kept.
        winners_wanted: artifacts to build in full.
        cache: for the stages.

    Raises:
        ExporterError: the request cannot be honoured.
    """
    started = time.perf_counter()
    _check(config)
    target = checked(config)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    study = open_study(place.storage or f"sqlite:///{out / STORAGE}", place.name, wish)
    bench = Bench(config=config, target=target, cache=cache.root)
    begin(study, recipe_text(config), wish, bench.machine)
    search(study, bench, wish)
    spent = time.perf_counter() - started
    found = points(study)
    best = frontier(found)
    built = tuple(_built(bench, point, out, cache.root) for point in winners(best, winners_wanted))
    report = TuneReport(
        target=target.name,
        recipe=recipe_text(config),
        max_drop=wish.max_drop,
        max_ms=wish.max_ms or None,
        max_kb=wish.max_kb or None,
        outcomes=outcomes(study),
        seconds=spent,
        trial_seconds=sum(point.seconds for point in found),
        reused=sum(point.reused for point in found),
        stages=sum(point.stages for point in found),
        machine=describe_machine(),
        points=found,
        frontier=tuple(point.trial for point in best),
        winners=built,
    )
    check_writable(out)
    (out / "tune.json").write_text(to_json(report))
    (out / "tune.md").write_text(markdown(report))
    if found:
        plot_frontier(report, out / "tune.png")
    return report


def join(place: Place, wish_seconds: float, trials: int, data: str, cache: Cache) -> dict[str, int]:
    """Take part in a search that somebody else has begun; return how its trials ended so far.

    Args:
        place: where it is kept.
        wish_seconds: how long to help.
        trials: how many trials at most; 0 for no limit.
        data: where the images are here; empty for where they are there.
        cache: for the stages.

    Raises:
        ExporterError: there is no such search, or it cannot be joined from here.
    """
    if not place.storage:
        raise ConfigError("A worker needs --storage: the URL that the search was begun with.")
    study = open_study(place.storage, place.name, None)
    config, wish = _asked(study, cache)
    if data:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, data=data))
    bench = Bench(config=config, target=find_target(config.target), cache=cache.root)
    search(study, bench, dataclasses.replace(wish, seconds=wish_seconds, trials=trials))
    return outcomes(study)


def _check(config: BuildConfig) -> None:
    if config.intake.onnx:
        raise ConfigError("A search trains and prunes; --onnx brings a network that is finished.")
    if config.train.minutes:
        raise ConfigError(
            "--minutes gives another network each time it trains. Say --epochs for a search."
        )


def _asked(study: optuna.Study, cache: Cache) -> tuple[BuildConfig, Wish]:
    """Return what the study's founder asked for."""
    if RECIPE not in study.user_attrs:
        raise ConfigError(f"The search {study.study_name!r} has not begun yet. Try again.")
    cache.root.mkdir(parents=True, exist_ok=True)
    path = cache.root / f"search-{study.study_name}.toml"
    path.write_text(study.user_attrs[RECIPE])
    return read_recipe(path), read_wish(study.user_attrs[WISH])


def _built(bench: Bench, point: Point, out: Path, cache: Path) -> Winner:
    """Build a trial's choice in full, verified on the test images."""
    folder = out / f"trial-{point.trial}"
    config = dataclasses.replace(bench.configured(point.values), out=str(folder))
    report = build(config, Cache(cache))
    shipped = report.shipped_model
    return Winner(
        trial=point.trial,
        passed=report.passed,
        bundle=report.bundle,
        top1=shipped.top1,
        drop=report.drop_points,
        kb=shipped.bytes / 1000,
        ms=shipped.p50_ms,
        speedup=report.speedup,
        speedup_ci=report.speedup_ci,
    )
