"""This tool against torch-pruning's own MagnitudePruner: same dense network, same fine-tuning.

Both start from the same trained network, may keep the same share of its multiply-adds, are
fine-tuned for the same epochs at the same rate with the dense network as teacher, and go through
the same export and quantization. MagnitudePruner removes the share of every layer that meets the
budget, found by bisection (its default: the same share everywhere, L2 norm of the coupled weights,
no rounding); what is left open is scores, allocation, rounding, and that this tool measures
batch-norms anew before it fine-tunes. The int8 files are timed in one interleaved run.

Usage::

    python -m benchmarks.against_torch_pruning --data cifar10
        [--data FOLDER] [--recipe benchmarks/recipes/edge-vgg.toml] [--macs 0.5,0.25]
        [--finetune-epochs N] [--allocate layer|global] [--seconds 10]
        [--cache FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_pruning as tp
from torch import nn

from exporter.artifacts import Artifact, Cache
from exporter.checkpoint import restore
from exporter.config import CalibrationConfig, PruneConfig
from exporter.contract import INPUT_NAME, OUTPUT_NAME, InputContract
from exporter.data.load import load_splits
from exporter.data.splits import Split, Splits
from exporter.graph.export import export_module, export_onnx
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.pruning.cost import count_macs
from exporter.pruning.recovery import fine_tune, fine_tuning_lesson
from exporter.pruning.small import small_network
from exporter.quantization.calibrate import calibrate
from exporter.quantization.choose import choose_ranges
from exporter.recipe import read_recipe
from exporter.targets import find_target
from exporter.training.dense import dense_network, normalized_data
from exporter.training.train import Trained
from exporter.verification.accuracy import accuracy
from exporter.verification.latency import summarize, time_blocks
from exporter.verification.pinning import pinned
from exporter.verification.predict import predict
from exporter.verification.session import open_session

TARGET = find_target("cpu-int8")
HALVINGS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """What a network became."""

    small: OnnxModel
    int8: Artifact


def magnitude_pruned(dense: nn.Module, contract: InputContract, most_macs: int) -> nn.Module:
    """Return a copy of ``dense`` cut by MagnitudePruner to at most ``most_macs``."""

    def cut(share: float) -> nn.Module:
        module = copy.deepcopy(dense)
        blank = torch.zeros(1, 3, contract.height, contract.width, requires_grad=True)
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        fixed = [layer for layer in layers if not layer.weight.requires_grad]
        pruner = tp.pruner.MagnitudePruner(
            module,
            blank,
            importance=tp.importance.MagnitudeImportance(p=2),
            pruning_ratio=share,
            ignored_layers=[*fixed, layers[-1]],
        )
        pruner.step()
        return module

    low, high = 0.0, 0.99
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if count_macs(cut(middle), contract) > most_macs:
            low = middle
        else:
            high = middle
    return cut(high)


def recovered(
    module: nn.Module, dense: nn.Module, config: PruneConfig, trained: Trained, data: Splits
) -> nn.Module:
    """Fine-tune ``module`` as the prune stage does after its only round."""
    epochs = config.finetune_epochs or trained.epochs
    lesson = fine_tuning_lesson(trained.lesson, config, epochs=epochs, index=0)
    with tempfile.TemporaryDirectory() as scratch:
        fine_tune(
            module, {}, lesson, data, teacher=dense, title="MagnitudePruner", resume=Path(scratch)
        )
    return module


def quantized(cache: Cache, small: OnnxModel, data: Splits) -> Files:
    """Return ``small`` with its int8 file, ranges chosen on validation images."""
    ranges = cache.run(calibrate, CalibrationConfig(), small, data.calibration)
    int8 = choose_ranges(cache, TARGET, small, ranges, data.validation)
    return Files(small=small, int8=int8.file)


def top1(cache: Cache, model: Artifact, test: Split) -> float:
    """Return the top-1 of a file on the test images, in percent."""
    _, labels = test.arrays()
    return accuracy(np.load(cache.run(predict, model, test).logits.path), labels).top1


def milliseconds(files: Mapping[str, Artifact], test: Split, seconds: float) -> dict[str, float]:
    """Return the median time of one image by name, all files in turns, one thread."""
    image = np.ascontiguousarray(test.arrays()[0][:1])
    with pinned(1):
        sessions = {name: open_session(file, threads=1) for name, file in files.items()}
        subjects = {
            name: (lambda session=session: session.run([OUTPUT_NAME], {INPUT_NAME: image}))
            for name, session in sessions.items()
        }
        blocks = time_blocks(subjects, seconds, np.random.default_rng(0))
    return {name: summarize(times).p50_ms for name, times in blocks.items()}


def main() -> None:
    """Prune both ways at every share and print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="cifar10, or a folder with train/ and test/")
    parser.add_argument(
        "--recipe", type=Path, default=Path("benchmarks/recipes/edge-vgg.toml"), help="TOML file"
    )
    parser.add_argument("--macs", default="0.5,0.25", help="shares of the dense multiply-adds")
    parser.add_argument("--finetune-epochs", type=int, help="in place of the recipe's")
    parser.add_argument("--allocate", choices=("layer", "global"), help="in place of the recipe's")
    parser.add_argument("--seconds", type=float, default=10.0, help="timing, per share")
    parser.add_argument("--cache", type=Path, help="keep stages here; default: a fresh folder")
    parser.add_argument("--json", type=Path, help="file that receives the figures")
    arguments = parser.parse_args()

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        cache = Cache(arguments.cache or Path(scratch) / "cache")
        recipe = read_recipe(arguments.recipe)
        images = dataclasses.replace(recipe.data, data=arguments.data)
        data = normalized_data(load_splits(cache, images), recipe.train)
        trained = dense_network(cache, recipe.train, data)
        dense = restore(trained.checkpoint)
        whole = cache.run(export_onnx, trained.checkpoint)
        before = top1(cache, whole.file, data.test)
        for share in map(float, arguments.macs.split(",")):
            budget = int(share * whole.macs)
            config = dataclasses.replace(
                recipe.prune,
                prune=None,
                max_macs=budget,
                finetune_epochs=arguments.finetune_epochs or recipe.prune.finetune_epochs,
                allocate=arguments.allocate or recipe.prune.allocate,
            )
            ours = small_network(cache, config, TARGET, trained, data, None)
            module = magnitude_pruned(dense, data.contract, budget)
            path = Path(scratch) / f"magnitude-{share:g}.onnx"
            export_module(recovered(module, dense, config, trained, data), data.contract, path)
            made = {
                "this tool": quantized(cache, cache.run(export_onnx, ours.checkpoint), data),
                "MagnitudePruner": quantized(cache, read_onnx_model(path), data),
            }
            times = milliseconds(
                {"dense": whole.file, **{name: files.int8 for name, files in made.items()}},
                data.test,
                arguments.seconds,
            )
            rows += [
                {
                    "pruner": name,
                    "share": share,
                    "macs": files.small.macs,
                    "dense_top1": before,
                    "float_top1": top1(cache, files.small.file, data.test),
                    "int8_top1": top1(cache, files.int8, data.test),
                    "int8_ms": times[name],
                    "speedup": times["dense"] / times[name],
                }
                for name, files in made.items()
            ]
    print("| pruner | MMACs | dense top-1 | float top-1 | int8 top-1 | int8 ms | speed-up |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['pruner']} | {row['macs'] / 1e6:.1f} ({100 * row['share']:.0f} %) "
            f"| {row['dense_top1']:.2f} | {row['float_top1']:.2f} | {row['int8_top1']:.2f} "
            f"| {row['int8_ms']:.3f} | {row['speedup']:.2f} |"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
