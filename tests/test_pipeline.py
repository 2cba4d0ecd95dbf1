"""The whole job on real images: same bytes, resume, second target, failed gates, the bundle."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import onnxruntime as ort
import pytest

from exporter.artifacts import Cache, sha256_of
from exporter.config import (
    BuildConfig,
    CorrectionConfig,
    DataConfig,
    PruneConfig,
    TrainConfig,
    VerifyConfig,
)
from exporter.data.load import load_splits
from exporter.device.merge import merge
from exporter.packing.pack import pack, unpack, verify_bundle
from exporter.pipeline import build
from exporter.recipe import read_recipe
from exporter.report.json import dumps
from exporter.report.model import BuildReport
from exporter.targets import TARGETS
from tests.bare import run_bare
from tests.tiny_bundle import run_bundle

RECIPE = """
target = "cpu-int8"
out = "{out}"

[data]
size = "20x20"
test_share = 0.25

[train]
widths = "16,32,32"
epochs = 6
batch_size = 100

[prune]
prune = 0.5
finetune_epochs = 4

[verify]
max_drop = 20.0
min_speedup = 0.0
timing_seconds = 0.2
"""
PLENTY = 45.0
"""Top-1 in percent; guessing gives 10."""


def config(folder: Path) -> BuildConfig:
    path = folder / "build.toml"
    path.write_text(RECIPE.format(out=folder / "dist"))
    return read_recipe(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("build")


@pytest.fixture(scope="module")
def report(folder: Path) -> BuildReport:
    return build(config(folder), Cache(folder / "cache"))


def test_a_build_passes_and_says_what_it_did(report: BuildReport, folder: Path) -> None:
    assert report.passed
    dense, small, int8 = report.models.dense, report.models.small, report.shipped_model
    assert small is not None
    assert report.bundle == str(folder / "dist" / "edge-vgg-cpu-int8")
    assert dense.total == small.total == int8.total > 300
    assert dense.top1 > PLENTY
    assert int8.bytes < small.bytes < dense.bytes
    assert int8.parameters == small.parameters < dense.parameters
    assert int8.macs == small.macs < dense.macs
    assert report.drop_points == pytest.approx(dense.top1 - int8.top1)
    assert report.size_ratio == int8.bytes / dense.bytes
    assert report.pruning is not None
    assert report.pruning.fold_error == 0
    assert report.pruning.shrink_error < 1e-4
    assert all(layer.after % 16 == 0 for layer in report.pruning.layers)
    assert report.quantization is not None
    assert report.quantization.floating == {}
    assert [stage.name for stage in report.stages][:3] == ["load", "train", "prune"]
    assert not any(stage.cached for stage in report.stages[:3])


def test_the_bundle_holds_what_was_measured(report: BuildReport, folder: Path) -> None:
    assert report.bundle is not None
    bundle = Path(report.bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        assert sha256_of(bundle / name) == entry["sha256"]
    assert (bundle / "model.onnx").stat().st_size == report.shipped_model.bytes
    document = json.loads((bundle / "report.json").read_text())
    schema = json.loads(files("exporter.report").joinpath("schema.json").read_text())
    jsonschema.validate(document, schema)
    assert document["bundle"] == report.bundle
    assert read_recipe(bundle / "recipe.toml") == config(folder)
    session = ort.InferenceSession(str(bundle / "model.onnx"))
    (entry,) = session.get_inputs()
    assert (entry.name, entry.type, entry.shape[1:]) == ("image", "tensor(uint8)", [20, 20, 3])
    for count in (1, 3):
        images = np.zeros((count, 20, 20, 3), np.uint8)
        assert session.run(None, {"image": images})[0].shape == (count, 10)


def test_from_here_to_a_bare_device_and_back_into_the_report(
    report: BuildReport, folder: Path, bare: Path, tmp_path: Path
) -> None:
    assert report.bundle is not None
    bundle, copied, answer = Path(report.bundle), tmp_path / "bundle", tmp_path / "device.json"
    unpack(pack(bundle, tmp_path / "bundle.zip").path, copied)
    images, labels = load_splits(Cache(folder / "cache"), config(folder).data).test.arrays()
    np.savez(tmp_path / "test.npz", images=images, labels=labels)
    done = run_bare(bare, copied, "--data", tmp_path / "test.npz", "--out", answer)
    assert (done.returncode, done.stderr) == (0, "")
    merged = merge(bundle, [answer], tmp_path / "report.json")
    assert verify_bundle(bundle).passed
    (device,) = merged.devices
    assert device.passed
    assert device.golden_difference == 0.0
    assert (device.top1, device.images) == (report.shipped_model.top1, report.shipped_model.total)
    assert device.runs >= 200
    assert dumps(dataclasses.replace(merged, devices=())) == (bundle / "report.json").read_text()
    assert "## Devices" in (tmp_path / "report.md").read_text()


def test_the_runner_in_the_bundle_agrees(report: BuildReport) -> None:
    assert report.bundle is not None
    assert run_bundle(Path(report.bundle))["golden"]["passed"] is True


def test_a_fresh_cache_ends_with_the_same_bytes(
    report: BuildReport, folder: Path, tmp_path: Path
) -> None:
    again = build(config(tmp_path), Cache(tmp_path / "cache"))
    assert again.bundle is not None
    assert report.bundle is not None
    for name in ("model.onnx", "golden.npz", "labels.txt"):
        assert sha256_of(Path(again.bundle) / name) == sha256_of(Path(report.bundle) / name)


def test_a_second_target_reuses_training(report: BuildReport, folder: Path) -> None:
    second = dataclasses.replace(config(folder), target="cpu-int8-avx2")
    other = build(second, Cache(folder / "cache"))
    stages = {stage.name: stage.cached for stage in other.stages}
    assert stages["load"]
    assert stages["train"]
    assert stages["prune"]
    assert not stages["quantize"]
    assert other.bundle == str(folder / "dist" / "edge-vgg-cpu-int8-avx2")
    assert other.quantization is not None
    assert other.quantization.seven_bit_layers
    assert all(layer.safe for layer in other.quantization.saturation.layers)


def test_weights_that_learned_to_be_rounded_are_what_ships(
    report: BuildReport, folder: Path, tmp_path: Path
) -> None:
    aware = dataclasses.replace(
        config(folder), out=str(tmp_path), correct=CorrectionConfig(aware_epochs=1)
    )
    other = build(aware, Cache(folder / "cache"))
    stages = {stage.name: stage.cached for stage in other.stages}
    assert stages["prune"]
    assert not stages["learn-rounding"]
    assert other.quantization is not None
    assert other.quantization.aware_epochs == 1
    assert other.quantization.floating == {}
    assert other.models.small is not None
    assert report.models.small is not None
    assert other.models.small.top1 == report.models.small.top1
    assert other.shipped_model.top1 > PLENTY
    assert sha256_of(Path(other.shipped_model.path)) != sha256_of(Path(report.shipped_model.path))


@pytest.mark.parametrize("name", ["web-int8", "mobile-int8"])
def test_what_ships_is_what_was_verified(report: BuildReport, folder: Path, name: str) -> None:
    other = build(dataclasses.replace(config(folder), target=name), Cache(folder / "cache"))
    assert (other.shipped, other.passed) == ("int8", True)
    assert other.models.dense.top1 == report.models.dense.top1
    assert other.bundle is not None
    file = Path(other.bundle) / TARGETS[name].file_name
    assert other.shipped_model.path == str(file)
    assert other.shipped_model.bytes == file.stat().st_size
    stages = [stage.name for stage in other.stages]
    assert stages.count("ship") == 1
    assert {stage.name: stage.cached for stage in other.stages}["prune"]
    assert other.kernel_gap is not None
    assert other.kernel_gap.changed_share < 0.1
    assert other.bundle is not None
    run_bundle(Path(other.bundle))


def test_a_float_target_ships_the_pruned_float_file(report: BuildReport, folder: Path) -> None:
    other = build(dataclasses.replace(config(folder), target="cpu-fp32"), Cache(folder / "cache"))
    small = report.models.small
    assert small is not None
    assert (other.shipped, other.models.int8, other.quantization) == ("small", None, None)
    assert other.kernel_gap is None
    assert other.bundle is not None
    file = Path(other.bundle) / "model.onnx"
    assert sha256_of(file) == sha256_of(Path(small.path))
    assert other.shipped_model.path == str(file)
    assert other.shipped_model.top1 == small.top1
    assert other.size_ratio == small.bytes / other.models.dense.bytes
    assert other.drop_points == pytest.approx(other.models.dense.top1 - small.top1)
    assert {"calibrate", "quantize", "ship"} & {stage.name for stage in other.stages} == set()
    document = json.loads((Path(other.bundle) / "report.json").read_text())
    jsonschema.validate(
        document, json.loads(files("exporter.report").joinpath("schema.json").read_text())
    )
    assert document["shipped"] == "small"
    assert document["models"]["int8"] is None
    assert other.bundle is not None
    run_bundle(Path(other.bundle))


def test_a_float_target_without_pruning_ships_dense_and_passes_by_default(
    report: BuildReport, folder: Path, tmp_path: Path
) -> None:
    plain = dataclasses.replace(
        config(folder),
        target="cpu-fp32",
        out=str(tmp_path),
        prune=PruneConfig(prune=0.0),
        verify=VerifyConfig(timing_seconds=0.2),
    )
    other = build(plain, Cache(folder / "cache"))
    assert (other.shipped, other.models.small, other.models.int8) == ("dense", None, None)
    assert (other.speedup, other.speedup_ci, other.drop_points) == (1.0, (1.0, 1.0), 0.0)
    assert other.passed
    assert other.size_ratio == 1.0


@pytest.mark.parametrize("gate", ["max-drop", "min-speedup"])
def test_a_failed_gate_keeps_the_report_and_no_bundle(
    report: BuildReport, folder: Path, tmp_path: Path, gate: str
) -> None:
    strict = {
        "max-drop": VerifyConfig(max_drop=-100, min_speedup=0, timing_seconds=0.2),
        "min-speedup": VerifyConfig(max_drop=100, min_speedup=1e6, timing_seconds=0.2),
    }
    failing = dataclasses.replace(config(folder), out=str(tmp_path), verify=strict[gate])
    failed = build(failing, Cache(folder / "cache"))
    assert not failed.passed
    assert failed.bundle is None
    assert [entry.name for entry in failed.gates if not entry.passed] == [gate]
    assert [entry.name for entry in tmp_path.iterdir() if entry.name[0] != "."] == [
        "edge-vgg-cpu-int8.failed"
    ]
    document = json.loads((tmp_path / "edge-vgg-cpu-int8.failed" / "report.json").read_text())
    assert document["passed"] is False


def test_without_pruning_there_is_no_small_model(folder: Path, tmp_path: Path) -> None:
    plain = dataclasses.replace(config(folder), out=str(tmp_path), prune=PruneConfig(prune=0.0))
    report = build(plain, Cache(folder / "cache"))
    assert report.models.small is None
    assert report.pruning is None
    assert report.shipped_model.parameters == report.models.dense.parameters


@pytest.mark.slow
def test_killed_and_started_again_ends_with_the_same_bytes(
    report: BuildReport, tmp_path: Path
) -> None:
    config(tmp_path)
    command = [sys.executable, "-m", "exporter", "build", "--recipe", str(tmp_path / "build.toml")]
    command += ["--cache", str(tmp_path / "cache"), "--json", "--quiet"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # as in this process: see conftest.py
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    time.sleep(6)  # the benchmark of kills looks at more moments
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    finished = json.loads(done.stdout)
    assert report.bundle is not None
    assert sha256_of(Path(finished["bundle"]) / "model.onnx") == sha256_of(
        Path(report.bundle) / "model.onnx"
    )


def test_defaults_of_the_recipe_are_those_of_the_code(folder: Path) -> None:
    expected = BuildConfig(
        out=str(folder / "dist"),
        data=DataConfig(size="20x20", test_share=0.25),
        train=TrainConfig(widths="16,32,32", epochs=6, batch_size=100),
        prune=PruneConfig(prune=0.5, finetune_epochs=4),
        verify=VerifyConfig(max_drop=20.0, min_speedup=0.0, timing_seconds=0.2),
    )
    assert config(folder) == expected
