from __future__ import annotations

import hashlib
import tracemalloc
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from calibration import (
    METHODS,
    ArrayStream,
    CalibrationError,
    activations,
    collect_ranges,
    passes_needed,
)
from calibration.activations import ActivationSession
from calibration.stream import Array
from tests.calibration import nets


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return nets.saved(nets.raw_bytes(nets.chain()), tmp_path / "model.onnx")


def stream(count: int = 21, batch_size: int = 8) -> ArrayStream:
    return ArrayStream(samples=nets.images(count), input_name="image", batch_size=batch_size)


class Batches:
    """A stream of given batches, one list for each time it is gone through."""

    digest = "d"

    def __init__(self, *passes: list[Mapping[str, Array]]) -> None:
        self.passes = iter(passes)

    def __iter__(self) -> Iterator[Mapping[str, Array]]:
        return iter(next(self.passes))


def test_ranges_are_those_of_the_reference_evaluator(model: Path) -> None:
    ranges = collect_ranges(model, stream(), ["minmax"])["minmax"]

    evaluator = ReferenceEvaluator(nets.chain())
    inputs = {"normalized": nets.normalized(nets.images(21))}
    values = evaluator.run(None, inputs, intermediate=True)
    assert isinstance(values, dict)
    for name, chosen in ranges.by_tensor.items():
        assert chosen.low == pytest.approx(min(0.0, values[name].min()), rel=1e-5, abs=1e-6)
        assert chosen.high == pytest.approx(max(0.0, values[name].max()), rel=1e-5, abs=1e-6)


def test_result_names_model_data_method_and_samples(model: Path) -> None:
    samples = stream()
    collected = collect_ranges(model, samples, list(METHODS))

    assert list(collected) == list(METHODS)
    for method, ranges in collected.items():
        assert ranges.method == method
        assert ranges.model_digest == hashlib.sha256(model.read_bytes()).hexdigest()
        assert ranges.data_digest == samples.digest
        assert ranges.samples == 21


def test_every_method_sees_the_same_tensors_and_keeps_within_minmax(model: Path) -> None:
    collected = collect_ranges(model, stream(), list(METHODS))

    widest = collected["minmax"].by_tensor
    for ranges in collected.values():
        assert ranges.by_tensor.keys() == widest.keys()
        for name, chosen in ranges.by_tensor.items():
            assert widest[name].low <= chosen.low <= 0.0 <= chosen.high <= widest[name].high
    assert collected["mse"].by_tensor != widest


@pytest.mark.parametrize("method", METHODS)
def test_one_method_alone_chooses_the_same(model: Path, method: str) -> None:
    together = collect_ranges(model, stream(), list(METHODS))[method]

    assert collect_ranges(model, stream(), [method]) == {method: together}


def test_the_same_samples_give_the_same_ranges(model: Path) -> None:
    first, second = (collect_ranges(model, stream(), list(METHODS)) for _ in range(2))

    assert first == second


def test_ragged_batches_change_nothing_before_the_last_layer(model: Path) -> None:
    # The fully connected layer may add up in another order for another number of rows.
    whole, ragged = (
        collect_ranges(model, stream(21, batch_size), list(METHODS)) for batch_size in (21, 4)
    )
    for method in METHODS:
        for name, chosen in whole[method].by_tensor.items():
            other = ragged[method].by_tensor[name]
            if name == "logits":
                assert other.high == pytest.approx(chosen.high, rel=1e-2)
            else:
                assert other == chosen


def test_batches_with_large_activations_are_run_in_parts(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = collect_ranges(model, stream(21, batch_size=8), list(METHODS))
    sizes: list[int] = []
    run = ActivationSession.run

    def watched(self: ActivationSession, batch: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        sizes.append(len(batch["image"]))
        return run(self, batch)

    sample_bytes = sum(
        values.nbytes
        for _, values in ActivationSession(model.read_bytes()).run({"image": nets.images(1)})
    )
    monkeypatch.setattr(activations, "RUN_BYTES", 3 * sample_bytes)
    monkeypatch.setattr(ActivationSession, "run", watched)
    told: list[int] = []
    parts = collect_ranges(model, stream(21, batch_size=8), list(METHODS), told.append)

    assert sizes == 2 * [3, 3, 2, 3, 3, 2, 3, 2]
    assert told == sizes
    for method, ranges in parts.items():
        assert ranges.samples == 21
        for name in ranges.by_tensor.keys() - {"logits"}:
            assert ranges.by_tensor[name] == whole[method].by_tensor[name]


def test_batches_and_activations_live_one_at_a_time(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Array]] = []
    left_over: list[int] = []
    run = ActivationSession.run

    def watched(self: ActivationSession, batch: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
        left_over.append(sum(reference() is not None for reference in alive))
        alive.append(weakref.ref(batch["image"]))
        for name, values in run(self, batch):
            alive.append(weakref.ref(values))
            yield name, values

    monkeypatch.setattr(ActivationSession, "run", watched)
    collect_ranges(model, stream(40, batch_size=4), list(METHODS))

    assert len(left_over) == 20
    assert len(alive) == 20 * (1 + 9)
    assert max(left_over) <= 1  # the loop's own variable may hold the last tensor, the logits


def test_peak_memory_does_not_grow_with_the_number_of_batches(model: Path) -> None:
    peaks = {}
    batch_bytes = nets.images(256).nbytes
    for batches in (4, 4, 40):  # the first round also pays for what is loaded once
        samples = Repeated(stream(256, batch_size=256), batches)
        tracemalloc.start()
        collect_ranges(model, samples, ["minmax", "percentile"])
        peaks[batches] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()

    assert peaks[40] < peaks[4] + batch_bytes


class Repeated:
    """The batches of a stream, many times over."""

    def __init__(self, stream: ArrayStream, times: int) -> None:
        self.stream = stream
        self.times = times
        self.digest = stream.digest

    def __iter__(self) -> Iterator[Mapping[str, Array]]:
        for _ in range(self.times):
            yield from self.stream


@pytest.mark.parametrize(
    ("methods", "passes"), [(["minmax"], 1), (["mse"], 2), (list(METHODS), 2), ([], 1)]
)
def test_passes_and_batches_are_reported(model: Path, methods: list[str], passes: int) -> None:
    heard: list[int] = []
    collect_ranges(model, stream(), methods, on_batch=heard.append)

    assert passes_needed(methods) == passes
    assert heard == [8, 8, 5] * passes


def test_no_temporary_files_are_left_or_made(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    monkeypatch.chdir(tmp_path)
    collect_ranges(model, stream(), list(METHODS))

    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_activation_that_is_not_finite_is_named_where_it_starts(
    tmp_path: Path, bad: float
) -> None:
    proto = nets.raw_bytes(nets.chain())
    bias = next(tensor for tensor in proto.graph.initializer if tensor.name == "w3")
    values = numpy_helper.to_array(bias).copy()
    values[5] = bad
    bias.CopyFrom(numpy_helper.from_array(values, "w3"))

    with pytest.raises(CalibrationError, match="'conv3'"):
        collect_ranges(nets.saved(proto, tmp_path / "m.onnx"), stream(), ["mse"])


def test_dead_and_constant_tensors_get_a_range(tmp_path: Path) -> None:
    proto = nets.raw_bytes(nets.chain())
    for name in ("w0", "w1"):
        tensor = next(tensor for tensor in proto.graph.initializer if tensor.name == name)
        zeros = np.zeros(tuple(tensor.dims), np.float32)
        tensor.CopyFrom(numpy_helper.from_array(zeros, name))

    collected = collect_ranges(nets.saved(proto, tmp_path / "m.onnx"), stream(), list(METHODS))

    for ranges in collected.values():
        chosen = ranges.by_tensor["relu1"]
        assert (chosen.low, chosen.high) == (0.0, 0.0)
        assert ranges.by_tensor["conv3"].high > 0.0  # its bias alone: a constant per channel


def test_an_unknown_method_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="'median'"):
        collect_ranges(tmp_path / "absent.onnx", stream(), ["minmax", "median"])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"absent\.onnx"):
        collect_ranges(tmp_path / "absent.onnx", stream(), ["minmax"])


@pytest.mark.parametrize("batches", [[], [{"image": nets.images(0)}]])
def test_a_stream_without_samples_is_refused(
    model: Path, batches: list[Mapping[str, Array]]
) -> None:
    with pytest.raises(CalibrationError, match="no samples"):
        collect_ranges(model, Batches(batches), ["minmax"])


def test_a_stream_that_ends_the_second_time_is_refused(model: Path) -> None:
    once: list[Mapping[str, Array]] = [{"image": nets.images(4)}]
    with pytest.raises(CalibrationError, match="4 samples in the first pass and 0 in the second"):
        collect_ranges(model, Batches(once, []), ["mse"])


def test_a_stream_that_yields_something_else_the_second_time_is_refused(model: Path) -> None:
    grey, noise = np.full((4, 8, 8, 3), 128, np.uint8), nets.images(4)
    with pytest.raises(CalibrationError, match="'normalized' has values outside"):
        collect_ranges(model, Batches([{"image": grey}], [{"image": noise}]), ["mse"])
