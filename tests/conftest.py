"""What several test packages share: a tiny dataset that a network can learn in seconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from exporter.artifacts import Artifact
from exporter.contract import InputContract
from exporter.data.splits import Split, Splits
from exporter.graph.model import OnnxModel
from tests.bare import bare_folder
from tests.tiny_bundle import tiny_bundle

# Tiny networks gain nothing from a second thread, and lose much where tests run side by side.
torch.set_num_threads(1)

SIDE = 20
CLASSES = ("blue", "green", "red")


def write_split(folder: Path, name: str, count: int, seed: int) -> Split:
    """Noise images with one bright channel: the class is that channel."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    images: NDArray[np.uint8] = generator.integers(0, 160, (count, SIDE, SIDE, 3), dtype=np.uint8)
    images[np.arange(count), :, :, 2 - labels] += 60
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}-images.npy", images)
    np.save(folder / f"{name}-labels.npy", labels)
    return Split(
        name=name,
        images=Artifact.of(folder / f"{name}-images.npy"),
        labels=Artifact.of(folder / f"{name}-labels.npy"),
        count=count,
    )


def write_splits(folder: Path) -> Splits:
    return Splits(
        source="test",
        train=write_split(folder, "train", 96, 1),
        calibration=write_split(folder, "calibration", 24, 2),
        validation=write_split(folder, "validation", 30, 3),
        test=write_split(folder, "test", 30, 4),
        contract=InputContract(height=SIDE, width=SIDE, classes=CLASSES),
        duplicates=0,
        unreadable=(),
        mirror_safe=True,
    )


@pytest.fixture(scope="session")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return write_splits(tmp_path_factory.mktemp("splits"))


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], OnnxModel]:
    """Exported files of the networks in ``tests.graph.networks``, each made once."""
    from tests.graph import networks

    @cache
    def export(name: str) -> OnnxModel:
        return networks.exported(networks.network(name), tmp_path_factory.mktemp(name))

    return export


@pytest.fixture
def make_split(tmp_path: Path) -> Callable[[str, int, int], Split]:
    return lambda name, count, seed: write_split(tmp_path / "made", name, count, seed)


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that nobody changes."""
    return tiny_bundle(tmp_path_factory.mktemp("shipped"))


@pytest.fixture
def copy(shipped: Path, tmp_path: Path) -> Path:
    """A bundle to be damaged."""
    return Path(shutil.copytree(shipped, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``run_bare``."""
    return bare_folder(tmp_path_factory.mktemp("bare"))
