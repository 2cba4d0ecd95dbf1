"""Where there is no room or no right to write: one line, and nothing under a final name."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from exporter.artifacts import RESUME, Artifact, Cache
from exporter.checkpoint import Checkpoint, restore, save_checkpoint
from exporter.contract import InputContract
from exporter.errors import OutputError
from exporter.models.family import ModelRef, build_model
from exporter.training.optimizer import KernelAndRest
from exporter.training.resume import Epoch, Resume

CONTRACT = InputContract(height=20, width=20, classes=("ant", "bee"))
REF = ModelRef(name="edge-vgg", widths=(16, 16, 16))
VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    checkpoint: Checkpoint


def save(out: Path, seed: int) -> Made:
    torch.manual_seed(seed)
    return Made(checkpoint=save_checkpoint(out, build_model(REF, CONTRACT), REF, CONTRACT, {}))


def save_an_epoch(out: Path, seed: int) -> Made:
    torch.manual_seed(seed)
    module = build_model(REF, CONTRACT)
    optimizer = KernelAndRest(module)
    (module(torch.zeros(2, 3, 20, 20)).sum()).backward()
    optimizer.step(0.01)
    state = Resume(out / RESUME, {"module": module}, optimizer)
    state.save([*state.load(), Epoch(loss=1.0, validation_top1=50.0)])
    return save(out, seed)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes: a full disk that needs no rights to make."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("stage", [save, save_an_epoch])
@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_disk_that_is_full_is_one_line_and_the_next_run_succeeds(
    tmp_path: Path, stage: Callable[[Path, int], Made], size: int
) -> None:
    cache = Cache(tmp_path)
    with room_for(size), pytest.raises(OutputError, match=r"File too large.*--cache") as caught:
        cache.run(stage, 1)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name[0] != "."] == []
    module = restore(cache.run(stage, 1).checkpoint)
    torch.manual_seed(1)
    expected = build_model(REF, CONTRACT).state_dict()
    for name, value in module.state_dict().items():
        assert torch.equal(value, expected[name]) or stage is save_an_epoch


def test_weights_are_the_bytes_that_safetensors_writes(tmp_path: Path) -> None:
    weights = save(tmp_path, 1).checkpoint.weights
    save_file(load_file(weights.path), tmp_path / "again")
    assert Artifact.of(tmp_path / "again").sha256 == weights.sha256


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that nobody can write")
def test_a_cache_that_cannot_be_written_is_one_line() -> None:
    with pytest.raises(OutputError, match=r"/proc/cache.*--cache") as caught:
        Cache(Path("/proc/cache")).run(save, 1)
    assert "\n" not in str(caught.value)
