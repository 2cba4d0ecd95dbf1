"""From a model and a stream of samples to ranges, in two passes and bounded memory.

Pass 1 keeps a minimum and a maximum of every activation, pass 2 counts a histogram between them.
At any time there is one batch with its activations, and one histogram per tensor, however many
samples there are. Batches whose activations would take too much memory are run in parts. Every
method reads the same histograms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from calibration.activations import ActivationSession
from calibration.errors import CalibrationError
from calibration.methods import Method, find_method
from calibration.observers import Histogram, MinMax
from calibration.ranges import Ranges
from calibration.stream import Array, CalibrationStream

OnBatch = Callable[[int], None]
"""Told the number of samples of every batch, or part of one, that is done; once per pass."""


def collect_ranges(
    model: Path,
    stream: CalibrationStream,
    methods: Sequence[str],
    on_batch: OnBatch | None = None,
) -> Mapping[str, Ranges]:
    """Return the ranges that each method chooses for every float activation of ``model``.

    The same samples in the same batches give the same ranges to the bit. Other batch sizes agree
    as far as ONNX Runtime's sums do: its fully connected kernels may add up in another order.

    Args:
        model: a float ONNX file without external data.
        stream: batches for the model's inputs.
        methods: names from ``METHODS``; the second pass is left out if none of them needs it.
        on_batch: called after each batch.

    Raises:
        CalibrationError: an unknown method, a file that is no runnable float model, a batch that
            does not fit it, no samples, a NaN or an infinite activation, or a stream that yields
            other samples the second time.
    """
    chosen = [find_method(name) for name in methods]
    report = on_batch or _unheard
    try:
        content = model.read_bytes()
    except OSError as error:
        raise CalibrationError(f"Cannot read {model}: {error.strerror}.") from error
    session = ActivationSession(content)
    histograms, samples = _extremes(session, stream, report)
    if _need_counts(chosen):
        _count(session, stream, histograms, samples, report)
    model_digest = hashlib.sha256(content).hexdigest()
    data_digest = stream.digest
    return {
        method.name: Ranges(
            model_digest=model_digest,
            data_digest=data_digest,
            method=method.name,
            samples=samples,
            by_tensor={name: method.choose(seen) for name, seen in histograms.items()},
        )
        for method in chosen
    }


def passes_needed(methods: Sequence[str]) -> int:
    """Return how often ``collect_ranges`` goes through the stream for ``methods``: 1 or 2."""
    return 2 if _need_counts([find_method(name) for name in methods]) else 1


def _need_counts(methods: Sequence[Method]) -> bool:
    return any(method.needs_counts for method in methods)


def _extremes(
    session: ActivationSession, stream: CalibrationStream, report: OnBatch
) -> tuple[dict[str, Histogram], int]:
    """Pass 1: return an empty histogram over the values of each tensor, and the sample count."""
    seen = {name: MinMax() for name in session.names}
    samples = 0
    for batch in _parts(stream, session.samples_per_run):
        for name, values in session.run(batch):
            seen[name].update(values)
        samples += _samples_in(batch)
        report(_samples_in(batch))
    if samples == 0:
        raise CalibrationError("There are no samples to calibrate on; give at least one.")
    for name, extremes in seen.items():  # in topological order: the first one is the cause
        if not extremes.is_finite:
            raise CalibrationError(
                f"The activation {name!r} runs from {extremes.low} to {extremes.high}, but must "
                "be finite. Check the model's weights and the samples."
            )
    return {name: Histogram(found.low, found.high) for name, found in seen.items()}, samples


def _count(
    session: ActivationSession,
    stream: CalibrationStream,
    histograms: Mapping[str, Histogram],
    samples: int,
    report: OnBatch,
) -> None:
    """Pass 2: fill the histograms; raises CalibrationError if the samples are not the same."""
    counted = 0
    for batch in _parts(stream, session.samples_per_run):
        for name, values in session.run(batch):
            try:
                histograms[name].update(values)
            except ValueError as error:
                raise CalibrationError(
                    f"The activation {name!r} has {error} in the second pass. "
                    "The stream must yield the same samples each time."
                ) from error
        counted += _samples_in(batch)
        report(_samples_in(batch))
    if counted != samples:
        raise CalibrationError(
            f"The stream had {samples} samples in the first pass and {counted} in the second. "
            "It must yield the same samples each time."
        )


def _parts(stream: CalibrationStream, most: int | None) -> Iterator[Mapping[str, Array]]:
    """Yield the batches of ``stream``, cut where they have more than ``most`` samples."""
    for batch in stream:
        samples = _samples_in(batch)
        if most is None or samples <= most:
            yield batch
            continue
        for start in range(0, samples, most):
            yield {name: values[start : start + most] for name, values in batch.items()}


def _samples_in(batch: Mapping[str, Array]) -> int:
    return len(next(iter(batch.values())))


def _unheard(samples: int) -> None:
    return None
