"""A file in any of its forms, wrapped: raw bytes in, the same logits out, any batch size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from calibration import ArrayStream, collect_ranges
from exporter.artifacts import Artifact
from exporter.config import IntakeConfig
from exporter.data.splits import Split
from exporter.errors import ConfigError, GraphError
from exporter.graph.model import OnnxModel
from exporter.intake import take_in as stage
from exporter.intake.take_in import TakenIn, take_in
from exporter.normalization import NORMALIZATIONS, Normalization
from exporter.quantization.quantize import quantize
from exporter.targets import find_target
from tests.intake.files import (
    CLASSES,
    CONTRACT,
    IMAGENET,
    SIDE,
    Array,
    classifier,
    difference,
    image_input,
    raw_images,
    run,
    written,
)

EXACT = 1e-5
"""Of the largest logit: the normalisation is computed in another order. A wrong border, a wrong
channel or a wrong mean is 1e-2 and more."""
ALIKE = 0.99
"""Correlation of int8 logits with float ones."""
IMAGENET_PIXELS = NORMALIZATIONS["imagenet"]
MEAN, STD = IMAGENET


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def validation(folder: Path) -> Split:
    raw = raw_images(20)
    np.save(folder / "images.npy", raw)
    np.save(folder / "labels.npy", np.arange(20, dtype=np.int64) % len(CLASSES))
    return Split(
        name="validation",
        images=Artifact.of(folder / "images.npy"),
        labels=Artifact.of(folder / "labels.npy"),
        count=20,
    )


def taken(
    folder: Path,
    model: ModelProto,
    *,
    stated: Normalization | None = None,
    names: tuple[str, ...] = (),
    **config: Any,
) -> TakenIn:
    file = Artifact.of(written(model, folder / "theirs.onnx"))
    (folder / "out").mkdir()
    wanted = IntakeConfig(**config)
    split = validation(folder)
    return take_in(folder / "out", wanted, (file,), names, stated, CONTRACT, split)


def by_hand(raw: NDArray[np.uint8]) -> Array:
    """``float32 [N, 3, H, W]``, normalised as torchvision does."""
    planes: Array = ((raw / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32)
    return planes


def normalising(*, last: bool) -> ModelProto:
    """A file that takes 0 to 255 and normalises by itself, channels last or first."""
    shape = (3,) if last else (3, 1, 1)
    nodes = [
        helper.make_node("Sub", ["data", "m"], ["a"]),
        helper.make_node("Div", ["a", "s"], ["b"]),
    ]
    if last:
        nodes.append(helper.make_node("Transpose", ["b"], ["c"], perm=[0, 3, 1, 2]))
    constants = {
        "m": (255 * MEAN).astype(np.float32).reshape(shape),
        "s": (255 * STD).astype(np.float32).reshape(shape),
    }
    image = image_input("N", SIDE, SIDE, 3) if last else None
    start = "c" if last else "b"
    return classifier(opset=11, image=image, first=nodes, start=start, constants=constants)


def cast_from_bytes() -> ModelProto:
    image = image_input(None, SIDE, SIDE, 3, kind=TensorProto.UINT8)
    nodes = [
        helper.make_node("Cast", ["data"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["b", "k"], ["c"]),
    ]
    constants = {"k": np.array(1 / 255, np.float32)}
    return classifier(opset=13, image=image, first=nodes, start="c", constants=constants)


def channels_last() -> ModelProto:
    nodes = [helper.make_node("Transpose", ["data"], ["a"], perm=[0, 3, 1, 2])]
    image = image_input("N", SIDE, SIDE, 3)
    return classifier(opset=10, image=image, first=nodes, start="a")


FORMS: dict[str, tuple[Callable[[], ModelProto], Callable[[NDArray[np.uint8]], Array]]] = {
    "opset 7, weights listed": (lambda: classifier(opset=7, listed=True), by_hand),
    "opset 13": (lambda: classifier(opset=13), by_hand),
    "opset 21": (lambda: classifier(opset=21), by_hand),
    "one image": (
        lambda: classifier(opset=12, image=image_input(1, 3, SIDE, SIDE), flatten=(1, 16)),
        by_hand,
    ),
    "one image, the rest joined": (
        lambda: classifier(opset=12, image=image_input(1, 3, SIDE, SIDE), flatten=(1, -1)),
        by_hand,
    ),
    "four images": (
        lambda: classifier(opset=12, image=image_input(4, 3, SIDE, SIDE), flatten=(4, 16)),
        by_hand,
    ),
    "any batch, any size": (
        lambda: classifier(opset=12, image=image_input("N", 3, "h", "w"), flatten=(-1, 16)),
        by_hand,
    ),
    "channels last": (channels_last, lambda raw: by_hand(raw).transpose(0, 2, 3, 1)),
    "normalises, channels last": (
        lambda: normalising(last=True),
        lambda raw: raw.astype(np.float32),
    ),
    "normalises, channels first": (
        lambda: normalising(last=False),
        lambda raw: raw.transpose(0, 3, 1, 2).astype(np.float32),
    ),
    "bytes": (cast_from_bytes, lambda raw: raw),
    "our names": (
        lambda: classifier(
            opset=13,
            image=image_input("N", 3, SIDE, SIDE, name="image"),
            start="image",
            last=[helper.make_node("Identity", ["scores"], ["logits"])],
        ),
        by_hand,
    ),
    "softmax": (
        lambda: classifier(
            opset=9, last=[helper.make_node("Softmax", ["scores"], ["prob"], axis=1)]
        ),
        by_hand,
    ),
}


def theirs(model: ModelProto, images: Array) -> Array:
    """Return the scores before any softmax, computed in batches that the file takes."""
    model.graph.output.append(
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", len(CLASSES)])
    )
    (image,) = [i for i in model.graph.input if i.name in ("data", "image")]
    count = image.type.tensor_type.shape.dim[0].dim_value or len(images)
    shape = (count, *images.shape[1:])
    rows = [
        run(model, "scores", **{image.name: np.resize(images[start : start + count], shape)})
        for start in range(0, len(images), count)
    ]
    return np.concatenate(rows)[: len(images)]


def int8_of(model: OnnxModel, folder: Path) -> Path:
    stream = ArrayStream(samples=raw_images(32), input_name="image", batch_size=8)
    ranges = collect_ranges(model.file.path, stream, ["minmax"])["minmax"]
    (folder / "ranges.json").write_text(ranges.to_json())
    (folder / "int8").mkdir()
    file = Artifact.of(folder / "ranges.json")
    target = find_target("cpu-int8")
    return quantize(folder / "int8", target, model, file, "minmax").file.path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_computes_the_same(folder: Path, form: str) -> None:
    make, prepare = FORMS[form]
    found = taken(folder, make())
    raw = raw_images()
    wanted = theirs(make(), prepare(raw))
    ours = run(found.model.file.path, image=raw)
    assert difference(ours, wanted) < EXACT
    assert found.model.parity is not None
    assert found.model.parity < EXACT
    for count in (1, 5):
        assert difference(run(found.model.file.path, image=raw[:count]), wanted[:count]) < EXACT
    operators = {node.op_type for node in onnx.load(found.model.file.path).graph.node}
    assert operators <= {
        "Transpose", "DequantizeLinear", "Add", "Conv", "Relu", "MaxPool", "GlobalAveragePool",
        "Flatten", "Gemm",
    }  # fmt: skip
    quantized = run(int8_of(found.model, folder), image=raw)
    assert np.corrcoef(quantized.ravel(), wanted.ravel())[0, 1] > ALIKE


def test_what_is_told_about_it(folder: Path) -> None:
    last = [helper.make_node("Softmax", ["scores"], ["prob"], axis=1)]
    found = taken(folder, classifier(opset=9, last=last))
    assert found.opset == 9
    assert found.dropped_softmax
    assert found.first_operators == ()
    assert found.preprocessing.stated == "imagenet"
    assert found.preprocessing.images == 20
    assert set(found.preprocessing.top1) == set(NORMALIZATIONS)
    assert found.model.contract.mean == pytest.approx(255 * MEAN)
    assert found.model.parameters == 3 * 8 * 9 + 8 + 8 * 16 * 9 + 16 + 16 * 5 + 5


def test_its_own_normalisation_is_counted_and_may_be_stated_wrongly(folder: Path) -> None:
    found = taken(folder, normalising(last=True))
    assert found.first_operators == ("Sub", "Div", "Transpose")
    assert found.preprocessing.stated == "raw"
    assert found.model.contract.mean == pytest.approx(255 * MEAN)
    assert found.model.contract.std == pytest.approx(255 * STD)
    # What is tried is what goes into the file, in front of its own normalisation.
    raw = raw_images(20)
    for name, scale in (("raw", 1), ("none", 1 / 255)):
        logits = run(normalising(last=True), data=(raw * scale).astype(np.float32))
        right = (logits.argmax(1) == np.arange(20) % len(CLASSES)).mean()
        assert found.preprocessing.top1[name] == pytest.approx(100 * right)


def test_a_stated_normalisation_comes_before_that_of_the_graph(folder: Path) -> None:
    half = Normalization(name="half", summary="", scale=0.5, mean=(1.0, 2.0, 3.0))
    found = taken(folder, normalising(last=False), stated=half)
    raw = raw_images()
    pixels = (raw * 0.5 - np.array([1, 2, 3])).transpose(0, 3, 1, 2).astype(np.float32)
    assert found.preprocessing.stated == "half"
    wanted = run(normalising(last=False), data=pixels)
    assert difference(run(found.model.file.path, image=raw), wanted) < EXACT


@pytest.mark.parametrize(("channels", "order"), [(3, "bgr"), (1, "rgb")])
def test_other_channels(folder: Path, channels: int, order: str) -> None:
    shape = image_input("N", channels, SIDE, SIDE)
    model = classifier(opset=13, channels=channels, image=shape)
    found = taken(folder, model, stated=NORMALIZATIONS["none"], channel_order=order)
    raw = raw_images()
    pixels = (raw / 255).transpose(0, 3, 1, 2)
    own = pixels[:, ::-1] if order == "bgr" else np.einsum(
        "nchw,c->nhw", pixels, [0.299, 0.587, 0.114]
    )[:, np.newaxis]  # fmt: skip
    wanted = run(model, data=np.ascontiguousarray(own, np.float32))
    assert difference(run(found.model.file.path, image=raw), wanted) < EXACT


def test_outputs_by_name(folder: Path) -> None:
    names = ("elk", "ox", "dog", "cat", "yak", "bee", "ant")
    model = classifier(opset=13, classes=len(names))
    found = taken(folder, model, names=names)
    assert found.model.contract.classes == CLASSES
    raw = raw_images()
    wanted = run(model, data=by_hand(raw))[:, [6, 5, 3, 2, 0]]
    assert difference(run(found.model.file.path, image=raw), wanted) < EXACT


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        digests.add(taken(tmp_path / name, classifier()).model.file.sha256)
    assert len(digests) == 1


def test_operators_without_kernels_stay_and_others_are_replaced(folder: Path) -> None:
    last = [
        helper.make_node("BatchNormalization", ["scores", "g", "z", "z", "v"], ["n"]),
        helper.make_node("Sub", ["n", "one"], ["s"]),
        helper.make_node("Sum", ["s", "scores", "s"], ["t"]),
        helper.make_node("Elu", ["t"], ["e"]),
        helper.make_node("MatMul", ["e", "head"], ["out"]),
    ]
    constants: dict[str, Array] = {
        "g": np.full(5, 1.5, np.float32),
        "z": np.full(5, 0.25, np.float32),
        "v": np.full(5, 2.0, np.float32),
        "one": np.array(1, np.float32),
        "head": np.random.default_rng(4).normal(size=(5, 5)).astype(np.float32),
    }
    model = classifier(opset=8, last=last, constants=constants)
    found = taken(folder, model)
    raw = raw_images()
    wanted = run(model, data=by_hand(raw))
    assert difference(run(found.model.file.path, image=raw), wanted) < EXACT
    operators = [node.op_type for node in onnx.load(found.model.file.path).graph.node]
    assert {"BatchNormalization", "Sub", "Sum"}.isdisjoint(operators)
    assert "Elu" in operators
    quantized = run(int8_of(found.model, folder), image=raw)
    assert np.corrcoef(quantized.ravel(), wanted.ravel())[0, 1] > ALIKE


def test_old_resizing_is_converted_as_it_was(folder: Path) -> None:
    first = [helper.make_node("Upsample", ["data"], ["a"], scales=[1.0, 1, 2, 2], mode="linear")]
    model = classifier(opset=7, first=first, start="a")
    found = taken(folder, model)
    raw = raw_images()
    wanted = run(model, data=by_hand(raw))
    assert difference(run(found.model.file.path, image=raw), wanted) < EXACT


@pytest.mark.parametrize(
    ("model", "config", "error", "message"),
    [
        (
            lambda: classifier(opset=13, classes=7),
            {},
            GraphError,
            "tells 7 classes apart, but .* 5",
        ),
        (
            lambda: classifier(opset=13),
            {"names": ("ant", "bee", "cat", "dog", "fly")},
            ConfigError,
            "'elk' is missing",
        ),
        (
            cast_from_bytes,
            {"stated": IMAGENET_PIXELS},
            ConfigError,
            "whole numbers, which imagenet pixels are not",
        ),
        (
            # Images of a batch are mixed: each minus their mean.
            lambda: classifier(
                opset=13,
                last=[
                    helper.make_node("ReduceMean", ["scores"], ["m"], axes=[0]),
                    helper.make_node("Sub", ["scores", "m"], ["out"]),
                ],
            ),
            {},
            GraphError,
            "outputs differ by .* each image on its own",
        ),
        (
            lambda: classifier(
                opset=13,
                last=[helper.make_node("Mul", ["scores", "nan"], ["out"])],
                constants={"nan": np.array(np.nan, np.float32)},
            ),
            {},
            GraphError,
            "outputs differ by nan",
        ),
    ],
)
def test_what_cannot_be_wrapped(
    folder: Path,
    model: Callable[[], ModelProto],
    config: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as caught:
        taken(folder, model(), **config)
    assert "\n" not in str(caught.value)
    if error is GraphError:
        assert str(caught.value).startswith(str(folder / "theirs.onnx"))


def test_a_difference_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(core: ModelProto) -> int:
        for tensor in core.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 4:
                values = onnx.numpy_helper.to_array(tensor) * np.float32(1.01)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return 0

    monkeypatch.setattr(stage, "use_flatten", broken)
    with pytest.raises(GraphError, match=r"outputs differ by 0\.0"):
        taken(folder, classifier())
