"""Training throughput: this project's loop against a plain PyTorch loop, on the same network.

The plain loop is what tutorials (and the article) show: a DataLoader over PIL images with
torchvision transforms, float32, Adam, batches of 64. Both train the same network with the same
augmentation (mirror, shift by up to 2 pixels) on the same images, in turns, so that a noisy machine
slows both.

Usage::

    python -m benchmarks.training_throughput [--rounds 5] [--seconds 8] [--json FILE]

Images are random bytes: throughput doesn't depend on what they show.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from exporter.artifacts import Artifact
from exporter.contract import InputContract
from exporter.data.splits import Split
from exporter.models import MODELS
from exporter.models.family import ModelRef, build_model
from exporter.training.augmentation import Augmentation
from exporter.training.loop import Lesson, fit

CONTRACT = InputContract(height=32, width=32, classes=tuple("0123456789"))
IMAGES = 20_000
PLAIN_BATCH = 64
WORKERS = 2


class PlainImages(Dataset[tuple[Tensor, int]]):
    """PIL images through torchvision transforms, one at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = [Image.fromarray(image) for image in images]
        self.labels = labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomCrop(32, padding=2, padding_mode="reflect"),
                transforms.ToTensor(),
                transforms.Normalize((0.5,) * 3, (0.25,) * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def plain_speed(model: ModelRef, images: np.ndarray, labels: np.ndarray, seconds: float) -> float:
    """Return images per second of the plain loop, its first batches not counted."""
    module = build_model(model, CONTRACT).train()
    optimizer = torch.optim.Adam(
        [parameter for parameter in module.parameters() if parameter.requires_grad]
    )
    loader = DataLoader(
        PlainImages(images, labels), batch_size=PLAIN_BATCH, shuffle=True, num_workers=WORKERS
    )
    done, started = 0, 0.0
    for step, (pixels, truth) in enumerate(_forever(loader)):
        if step == 5:
            started = time.perf_counter()
        elif step > 5 and time.perf_counter() - started > seconds:
            break
        optimizer.zero_grad()
        functional.cross_entropy(module(pixels), truth).backward()
        optimizer.step()
        done += len(truth) if step >= 5 else 0
    return done / (time.perf_counter() - started)


def _forever(loader: DataLoader[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def our_speed(model: ModelRef, train: Split, validation: Split, seconds: float) -> float:
    """Return images per second of the project's loop."""
    lesson = Lesson(
        epochs=1000,
        minutes=seconds / 60,
        batch_size=500,
        learning_rate=0.1,
        label_smoothing=0.1,
        augmentation=Augmentation(flip=True, translate=2, cutout=0),
        seed=0,
    )
    module: nn.Module = build_model(model, CONTRACT)
    return fit(module, lesson, CONTRACT, train, validation, title="").images_per_second


def main() -> None:
    """Print a Markdown table of both speeds and their ratio for every network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="paired rounds per network")
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds per loop and round")
    parser.add_argument("--json", type=Path, help="file that receives the figures")
    arguments = parser.parse_args()

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    labels = generator.integers(0, 10, IMAGES)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        # An "epoch" of a few steps lets the time budget end where it should.
        train = _split(Path(folder), "train", images[:4000], labels[:4000])
        validation = _split(Path(folder), "validation", images[:10], labels[:10])
        print("| network | plain loop, images/s | this loop, images/s | ratio (min-max) |")
        print("|---|---|---|---|")
        for name, family in MODELS.items():
            model = ModelRef(name=name, widths=family.widths)
            pairs = [
                (
                    plain_speed(model, images, labels, arguments.seconds),
                    our_speed(model, train, validation, arguments.seconds),
                )
                for _ in range(arguments.rounds)
            ]
            ratios = sorted(ours / plain for plain, ours in pairs)
            row = {
                "network": name,
                "plain": statistics.median(plain for plain, _ in pairs),
                "ours": statistics.median(ours for _, ours in pairs),
                "ratio": statistics.median(ratios),
                "ratio_min": ratios[0],
                "ratio_max": ratios[-1],
            }
            rows.append(row)
            print(
                f"| {name} | {row['plain']:.0f} | {row['ours']:.0f} "
                f"| {row['ratio']:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) |",
                flush=True,
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


def _split(folder: Path, name: str, images: np.ndarray, labels: np.ndarray) -> Split:
    np.save(folder / f"{name}-images.npy", images)
    np.save(folder / f"{name}-labels.npy", labels.astype(np.int64))
    return Split(
        name=name,
        images=Artifact.of(folder / f"{name}-images.npy"),
        labels=Artifact.of(folder / f"{name}-labels.npy"),
        count=len(labels),
    )


if __name__ == "__main__":
    main()
