"""What each criterion keeps of the accuracy, at the same multiply-adds and the same fine-tuning.

Usage::

    python -m benchmarks.pruning --data cifar10            # downloaded by torchvision before
    python -m benchmarks.pruning --data FOLDER             # a tree with train/ and test/
        [--recipe benchmarks/recipes/edge-vgg.toml] [--criteria wanda,l1,taylor,random]
        [--macs 0.5,0.25] [--seeds 0,1,2] [--finetune-epochs N] [--allocate layer|global]
        [--cache FOLDER] [--json FILE] [--plot FILE.png]

Every cell is a whole build, budgeted by ``--max-macs`` at a share of the dense network's. There is
one dense network, trained as the recipe says; seeds change what happens to it: the augmentation and
the order of the images while it is fine-tuned, and what ``random`` removes. Drops are against the
dense float network, on the test images; the spread is the standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.artifacts import Cache
from exporter.config import BuildConfig, VerifyConfig
from exporter.data.load import load_splits
from exporter.graph.export import export_onnx
from exporter.pipeline import build
from exporter.recipe import read_recipe
from exporter.training.dense import dense_network, normalized_data

ANY = VerifyConfig(max_drop=100.0, min_speedup=0.0)
"""Here gates measure nothing: a criterion that loses much is a result."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, which colour-blind people tell apart."""
MARKERS = "osD^vP*X"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One criterion at one share of the multiply-adds, with one seed."""

    criterion: str
    share: float
    """Of the dense network's multiply-adds, as asked."""
    seed: int
    macs: int
    dense_top1: float
    float_top1: float
    int8_top1: float
    int8_bytes: int
    int8_ms: float
    speedup: float


def measure(config: BuildConfig, criterion: str, share: float, cache: Cache) -> Cell:
    """Build once and return what came out."""
    report = build(config, cache)
    small = report.models.small or report.models.dense
    return Cell(
        criterion=criterion,
        share=share,
        seed=config.train.seed,
        macs=small.macs,
        dense_top1=report.models.dense.top1,
        float_top1=small.top1,
        int8_top1=report.shipped_model.top1,
        int8_bytes=report.shipped_model.bytes,
        int8_ms=report.shipped_model.p50_ms,
        speedup=report.speedup,
    )


def table(cells: Sequence[Cell]) -> list[str]:
    """Return Markdown rows: the mean over seeds ± its standard deviation."""
    lines = [
        "| criterion | MACs | float drop, points | int8 drop, points | int8 KB | int8 ms | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for share in sorted({cell.share for cell in cells}, reverse=True):
        for criterion in dict.fromkeys(cell.criterion for cell in cells):
            same = [cell for cell in cells if (cell.criterion, cell.share) == (criterion, share)]
            if not same:
                continue
            row = [
                criterion,
                f"{statistics.mean(cell.macs for cell in same) / 1e6:.1f} M ({100 * share:.0f} %)",
                _spread([cell.dense_top1 - cell.float_top1 for cell in same]),
                _spread([cell.dense_top1 - cell.int8_top1 for cell in same]),
                f"{statistics.mean(cell.int8_bytes for cell in same) / 1000:.0f}",
                f"{statistics.mean(cell.int8_ms for cell in same):.3f}",
                str(len(same)),
            ]
            lines.append("| " + " | ".join(row) + " |")
    return lines


def _spread(values: Sequence[float]) -> str:
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def plot(cells: Sequence[Cell], path: Path) -> None:
    """Write the picture: int8 accuracy against multiply-adds and against milliseconds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained", facecolor="white")
    by_work, by_time = figure.subplots(1, 2, sharey=True)
    for place, criterion in enumerate(dict.fromkeys(cell.criterion for cell in cells)):
        groups = [
            [cell for cell in cells if (cell.criterion, cell.share) == (criterion, share)]
            for share in sorted({cell.share for cell in cells})
        ]
        points = [
            (
                statistics.mean(cell.macs for cell in same) / 1e6,
                statistics.mean(cell.int8_ms for cell in same),
                statistics.mean(cell.int8_top1 for cell in same),
                statistics.stdev([cell.int8_top1 for cell in same]) if len(same) > 1 else 0.0,
            )
            for same in groups
            if same
        ]
        work, time, top1, spread = map(list, zip(*points, strict=True))
        for panel, across in ((by_work, work), (by_time, time)):
            panel.errorbar(
                across,
                top1,
                yerr=spread,
                color=COLOURS[place % len(COLOURS)],
                marker=MARKERS[place % len(MARKERS)],
                markersize=5,
                linewidth=1.2,
                capsize=2,
                label=criterion,
            )
    dense = cells[0].dense_top1
    for panel, title in ((by_work, "multiply-adds, millions"), (by_time, "int8 file, ms (p50)")):
        panel.axhline(dense, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
        panel.set_xlabel(title)
        panel.grid(color="0.92", linewidth=0.6)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    by_work.set_ylabel("int8 top-1, % (dashed: dense float)")
    by_time.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Build every cell and print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="cifar10, or a folder with train/ and test/")
    parser.add_argument(
        "--recipe", type=Path, default=Path("benchmarks/recipes/edge-vgg.toml"), help="TOML file"
    )
    parser.add_argument("--criteria", default="wanda,l1,taylor,fisher,lamp,fpgm,random")
    parser.add_argument("--macs", default="0.5,0.25", help="shares of the dense multiply-adds")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--finetune-epochs", type=int, help="in place of the recipe's")
    parser.add_argument("--allocate", choices=("layer", "global"), help="in place of the recipe's")
    parser.add_argument("--cache", type=Path, help="keep stages here; default: a fresh folder")
    parser.add_argument("--json", type=Path, help="file that receives every cell")
    parser.add_argument("--plot", type=Path, help="file that receives the picture")
    arguments = parser.parse_args()

    cells: list[Cell] = []
    with tempfile.TemporaryDirectory() as scratch:
        cache = Cache(arguments.cache or Path(scratch) / "cache")
        recipe = read_recipe(arguments.recipe)
        images = dataclasses.replace(recipe.data, data=arguments.data)
        trained = dense_network(
            cache, recipe.train, normalized_data(load_splits(cache, images), recipe.train)
        )
        dense_macs = cache.run(export_onnx, trained.checkpoint).macs
        for seed in map(int, arguments.seeds.split(",")):
            learning = recipe.train
            if seed != recipe.train.seed:
                learning = dataclasses.replace(
                    recipe.train,
                    weights=str(trained.checkpoint.weights.path),
                    normalization="own",
                    seed=seed,
                )
            for share in map(float, arguments.macs.split(",")):
                for criterion in arguments.criteria.split(","):
                    how = dataclasses.replace(
                        recipe.prune,
                        prune=None,
                        max_macs=int(share * dense_macs),
                        criterion=criterion,
                        finetune_epochs=arguments.finetune_epochs or recipe.prune.finetune_epochs,
                        allocate=arguments.allocate or recipe.prune.allocate,
                    )
                    config = BuildConfig(
                        out=str(Path(scratch) / "dist"),
                        data=images,
                        train=learning,
                        prune=how,
                        verify=ANY,
                    )
                    cells.append(measure(config, criterion, share, cache))
                    print(cells[-1], file=sys.stderr, flush=True)
    print("\n".join(table(cells)))
    if arguments.json:
        arguments.json.write_text(
            json.dumps([dataclasses.asdict(cell) for cell in cells], indent=2) + "\n"
        )
    if arguments.plot:
        plot(cells, arguments.plot)


if __name__ == "__main__":
    main()
