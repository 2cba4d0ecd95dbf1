"""The dense network of a build that starts from an ONNX file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from exporter.artifacts import Cache
from exporter.config import BuildConfig, DataConfig, IntakeConfig
from exporter.contract import InputContract
from exporter.data.load import load_splits
from exporter.data.size import parse_size
from exporter.data.splits import Splits
from exporter.errors import ConfigError, DataError, GraphError
from exporter.graph.limits import parse_model
from exporter.graph.metadata import read_contract
from exporter.graph.model import OnnxModel, read_onnx_model
from exporter.intake.class_names import read_names
from exporter.intake.image_input import ImageInput, find_image
from exporter.intake.pixels import stated_pixels
from exporter.intake.read import files_of, read_float_model, told_of
from exporter.intake.take_in import take_in
from exporter.option import flag_of
from exporter.progress import say
from exporter.report.intake import IntakeReport
from exporter.training.preprocessing import mismatch
from exporter.verification.predict import predict


def check_intake(config: BuildConfig) -> None:
    """Refuse what can be refused before the file and the images are read.

    Raises:
        ConfigError: there are options about an ONNX file but none is named, or the normalisation is
            unknown.
    """
    asked = [
        entry.name
        for entry in dataclasses.fields(config.intake)
        if getattr(config.intake, entry.name) != entry.default
    ]
    if config.intake.task == "any":
        raise ConfigError(
            "--task any is for `exporter quantize MODEL.onnx`: a bundle's runner, golden outputs "
            "and gates are a classifier's."
        )
    if asked and not config.intake.onnx:
        raise ConfigError(f"{flag_of(asked[0])} is about an ONNX file. Name it with --onnx.")
    stated_pixels(config.train)


def own_network(cache: Cache, config: BuildConfig) -> tuple[Splits, OnnxModel, IntakeReport]:
    """Return the images, the file that ``--onnx`` names with the contract, and how it got that.

    Raises:
        ConfigError, DataError, GraphError: the file cannot be built from, or not with this data.
    """
    path = Path(config.intake.onnx).expanduser()
    known = _contract_in(path)
    if known is not None:
        return _finished_file(cache, config, path, known)
    files = files_of(path)
    names = read_names(Path(config.intake.classes).expanduser()) if config.intake.classes else ()
    image = _image(path, config)
    data = _images(cache, config.data, image.height, image.width)
    taken = cache.run(
        take_in,
        # Where the files lie, and what was read from one of them, is not what they say.
        dataclasses.replace(config.intake, onnx="", classes=""),
        files,
        names,
        stated_pixels(config.train),
        data.contract,
        data.validation,
    )
    seen = taken.preprocessing
    # Outside the stage: a warning that a cached result keeps to itself warns nobody.
    say(f"{path}: {seen.validation_top1:.2f} % on validation images, pixels as {seen.stated}.")
    warning = mismatch(seen, data.contract.classes)
    if warning:
        say(warning)
    report = IntakeReport(
        path=str(path),
        sha256=files[0].sha256,
        opset=taken.opset,
        normalization=seen.stated,
        first_operators=taken.first_operators,
        dropped_softmax=taken.dropped_softmax,
        difference=taken.model.parity,
        validation_top1=seen.validation_top1,
        warning=warning or None,
    )
    return dataclasses.replace(data, contract=taken.model.contract), taken.model, report


def _contract_in(path: Path) -> InputContract | None:
    """Return the contract of a file that this tool wrote, None for any other file."""
    try:
        return read_contract(parse_model(path))
    except GraphError:
        return None


def _finished_file(
    cache: Cache, config: BuildConfig, path: Path, known: InputContract
) -> tuple[Splits, OnnxModel, IntakeReport]:
    """Take a float file that this tool wrote, which has the contract already."""
    model = read_onnx_model(path)
    if any(node.op_type == "QuantizeLinear" for node in parse_model(path).graph.node):
        raise GraphError(f"{path} is already quantized; bring the float file it was made from.")
    if dataclasses.replace(config.intake, onnx="") != IntakeConfig() or stated_pixels(config.train):
        raise ConfigError(
            f"{path} was written by this tool and knows its pixels, its classes, its input and its "
            "output. Leave out what states them."
        )
    size = parse_size(config.data.size)
    if size not in (None, (known.height, known.width)):
        raise ConfigError(
            f"--size is {size}, but {path} takes {known.height}x{known.width}. Leave --size out."
        )
    wanted = dataclasses.replace(config.data, resize=known.resize)
    data = _images(cache, wanted, known.height, known.width)
    if data.contract.classes != known.classes:
        raise DataError(
            f"{path} tells {len(known.classes)} classes apart, but --data has "
            f"{len(data.contract.classes)}, or others. Use the data it was made for."
        )
    logits = np.load(cache.run(predict, model.file, data.validation).logits.path)
    top1 = 100 * float((logits.argmax(1) == data.validation.arrays()[1]).mean())
    say(f"{path}: {top1:.2f} % on validation images.")
    report = IntakeReport(
        path=str(path),
        sha256=model.file.sha256,
        opset=None,
        normalization=None,
        first_operators=(),
        dropped_softmax=False,
        difference=None,
        validation_top1=top1,
        warning=None,
    )
    return dataclasses.replace(data, contract=known), model, report


def _image(path: Path, config: BuildConfig) -> ImageInput:
    model = read_float_model(path)
    with told_of(path):
        return find_image(model, config.intake, parse_size(config.data.size))


def _images(cache: Cache, config: DataConfig, height: int, width: int) -> Splits:
    """Return the data at the size that the file takes."""
    return load_splits(cache, dataclasses.replace(config, size=f"{height}x{width}"))
