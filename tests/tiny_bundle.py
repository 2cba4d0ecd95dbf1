"""A network of a few hundred weights, images for it, and the bundle made of both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporter.artifacts import Artifact, Cache
from exporter.bundle import bundle
from exporter.contract import InputContract
from exporter.data.splits import Split
from exporter.graph.model import OnnxModel
from exporter.ship import Shipped, shipped_for
from exporter.targets import Target, find_target

CLASSES = ("ant", "bee", "cat", "dog")
CONTRACT = InputContract(height=8, width=6, classes=CLASSES)
TARGET = find_target("cpu-int8")


def tiny_model(path: Path, classes: int = len(CLASSES), gain: float = 8.0) -> Artifact:
    """Image, convolution, mean, logits; no two of height, width and channels are equal."""
    random = np.random.default_rng(5)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)

    initializers = [
        numpy_helper.from_array(np.array(1 / 64, np.float32), "scale"),
        numpy_helper.from_array(np.array(128, np.uint8), "zero_point"),
        weights("kernel", 5, 3, 3, 3),
        numpy_helper.from_array(
            gain * random.normal(size=(5, classes)).astype(np.float32), "dense"
        ),
    ]
    nodes = [
        helper.make_node("Transpose", ["image"], ["image_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("DequantizeLinear", ["image_nchw", "scale", "zero_point"], ["normalized"]),
        helper.make_node("Conv", ["normalized", "kernel"], ["convolved"]),
        helper.make_node("Relu", ["convolved"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["logits"]),
    ]
    shape: list[str | int | None] = ["N", CONTRACT.height, CONTRACT.width, 3]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return Artifact.of(path)


def tiny_split(folder: Path, count: int = 200, classes: int = len(CLASSES)) -> Split:
    """Blurry noise, and labels that take no heed of it."""
    random = np.random.default_rng(6)
    coarse = random.integers(0, 256, (count, 4, 3, 3), dtype=np.uint8)
    np.save(folder / "images.npy", coarse.repeat(2, axis=1).repeat(2, axis=2))
    np.save(folder / "labels.npy", random.permutation(np.arange(count) % classes).astype(np.int64))
    return Split(
        name="validation",
        images=Artifact.of(folder / "images.npy"),
        labels=Artifact.of(folder / "labels.npy"),
        count=count,
    )


def run_bundle(bundle: Path) -> dict[str, Any]:
    """Let the bundle check itself, as on a device; return what it answers."""
    done = subprocess.run(
        [sys.executable, "run.py", "--no-latency", "--json"],
        cwd=bundle,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def as_it_is(file: Artifact) -> Shipped:
    return Shipped(file=file, source=file)


def tiny_bundle(
    folder: Path, *, report: str = '{"passed": true}\n', target: Target = TARGET
) -> Path:
    """Return ``folder/dist/tiny-<target>``."""
    model = tiny_model(folder / "model.onnx")
    exported = OnnxModel(file=model, contract=CONTRACT, parameters=0, macs=0)
    return bundle(
        folder / "dist",
        name="tiny",
        target=target,
        shipped=shipped_for(Cache(folder / "cache"), target, exported),
        contract=CONTRACT,
        validation=tiny_split(folder),
        recipe='target = "cpu-int8"\n',
        reports={"report.json": report.encode(), "report.md": b"# Report\n"},
    )
