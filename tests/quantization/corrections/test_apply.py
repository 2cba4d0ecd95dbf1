from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from exporter.artifacts import Artifact, Cache
from exporter.config import CORRECTIONS, CorrectionConfig
from exporter.data.splits import Split
from exporter.errors import ConfigError, GraphError
from exporter.graph.limits import read_model
from exporter.graph.metadata import read_metadata
from exporter.graph.model import OnnxModel
from exporter.quantization.calibrate import Calibrated
from exporter.quantization.corrections import apply
from exporter.quantization.corrections.apply import correct, corrected, rescale, rescaled
from exporter.quantization.corrections.rounding import Schedule, round_adaptively
from exporter.quantization.quantize import quantize
from exporter.targets import find_target
from tests.graph import networks
from tests.quantization.conftest import Calibrator

CPU = find_target("cpu-int8")
Exports = Callable[[str], OnnxModel]


@pytest.fixture
def images(tmp_path: Path) -> Split:
    np.save(tmp_path / "images.npy", networks.pixels(24))
    np.save(tmp_path / "labels.npy", np.zeros(24, np.int64))
    return Split(
        name="calibration",
        images=Artifact.of(tmp_path / "images.npy"),
        labels=Artifact.of(tmp_path / "labels.npy"),
        count=24,
    )


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("none", ()),
        ("bias", ("bias",)),
        ("bias, equalize", ("equalize", "bias")),
        ("adaround,bias,equalize,open-clips", CORRECTIONS),
    ],
)
def test_corrections_have_an_order_of_their_own(text: str, chosen: tuple[str, ...]) -> None:
    assert CorrectionConfig(correct=text).chosen == chosen


@pytest.mark.parametrize("text", ["", "all", "none,bias", "bias,,equalize"])
def test_an_unknown_correction_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--correct.*Known: open-clips"):
        CorrectionConfig(correct=text).check_rules()


def test_nothing_is_done_unless_asked(
    tmp_path: Path, exports: Exports, calibrated: Calibrator, images: Split
) -> None:
    model = exports("plain")
    cache, none = Cache(tmp_path), CorrectionConfig()
    int8 = quantize(tmp_path, CPU, model, calibrated(model), "minmax")
    ranges = Calibrated(by_method={"minmax": calibrated(model)}, images=32)

    assert rescaled(cache, none, model) is model
    assert corrected(cache, none, CPU, model, ranges, int8, images) is int8
    assert (
        corrected(cache, CorrectionConfig(correct="equalize"), CPU, model, ranges, int8, images)
        is int8
    )
    assert cache.runs == []


def test_an_equalised_file_computes_the_same_with_other_weights(
    tmp_path: Path, exports: Exports
) -> None:
    model = exports("plain")

    even = rescale(tmp_path, ("equalize",), model)

    pixels = networks.pixels(8)
    before, after = (networks.run(m.file.path, pixels) for m in (model, even))
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()
    assert even.parity is not None
    assert 0 < even.parity < 1e-5
    assert even.file.sha256 != model.file.sha256
    assert even == replace(model, file=even.file)
    assert read_metadata(read_model(even.file.path)) == read_metadata(read_model(model.file.path))


def test_an_equalisation_that_changes_the_outputs_is_no_equalisation(
    tmp_path: Path, exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "TOLERANCE", 1e-12)

    with pytest.raises(GraphError, match="Leave equalize out"):
        rescale(tmp_path, ("equalize",), exports("plain"))


def test_a_corrected_file_ships_and_lies_closer_to_the_float_one(
    tmp_path: Path,
    exports: Exports,
    calibrated: Calibrator,
    images: Split,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = exports("plain")
    ranges = calibrated(model)
    (tmp_path / "a").mkdir()
    quick = partial(round_adaptively, schedule=Schedule(steps=60, rate=0.05))
    monkeypatch.setattr(apply, "round_adaptively", quick)
    int8 = quantize(tmp_path / "a", CPU, model, ranges, "minmax")

    better = correct(tmp_path, ("adaround", "bias"), CPU, model, ranges, "minmax", images)

    assert better.coverage == int8.coverage
    assert better.seven_bit_layers == int8.seven_bit_layers
    assert (better.parameters, better.macs) == (int8.parameters, int8.macs)
    described = json.loads(read_metadata(read_model(better.file.path))["quantization"])
    assert described["corrections"] == ["adaround", "bias"]
    pixels = networks.pixels(24)
    wanted = networks.run(model.file.path, pixels)
    errors = [
        np.abs((networks.run(m.file.path, pixels) - wanted).mean(axis=0)).max()
        for m in (int8, better)
    ]
    assert errors[1] < errors[0]
