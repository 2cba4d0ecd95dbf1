from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration import Array, ArrayStream, CalibrationError
from tests.calibration import nets


def stream(samples: Array, batch_size: int = 8) -> ArrayStream:
    return ArrayStream(samples=samples, input_name="image", batch_size=batch_size)


@pytest.mark.parametrize(("batch_size", "sizes"), [(8, [8, 8, 5]), (7, [7, 7, 7]), (99, [21])])
def test_batches_cover_the_samples_in_order(batch_size: int, sizes: list[int]) -> None:
    pixels = nets.images(21)
    batches = [batch["image"] for batch in stream(pixels, batch_size)]

    assert [len(batch) for batch in batches] == sizes
    assert np.array_equal(np.concatenate(batches), pixels)


def test_a_stream_can_be_gone_through_again_and_in_parallel() -> None:
    both = stream(nets.images(9), batch_size=4)

    for one, other in zip(both, both, strict=True):
        assert np.array_equal(one["image"], other["image"])
    assert len(list(both)) == 3


def test_digest_is_that_of_the_samples_and_their_order() -> None:
    pixels = nets.images(9)
    expected = stream(pixels).digest

    assert stream(pixels.copy(), batch_size=2).digest == expected
    changed = pixels.copy()
    changed[8, 0, 0, 0] ^= 1
    assert stream(changed).digest != expected
    assert stream(pixels[::-1]).digest != expected
    assert stream(pixels.astype(np.int8)).digest != expected
    assert stream(pixels.reshape(9, 4, 16, 3)).digest != expected


def test_memory_mapped_samples_are_read_batch_by_batch(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", nets.images(10))
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")

    assert [len(batch["image"]) for batch in stream(mapped, batch_size=4)] == [4, 4, 2]
    assert stream(mapped).digest == stream(nets.images(10)).digest


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batches_must_not_be_empty(batch_size: int) -> None:
    with pytest.raises(CalibrationError, match=f"batch size is {batch_size}"):
        stream(nets.images(3), batch_size)


@pytest.mark.parametrize("samples", [np.zeros((0, 8, 8, 3), np.uint8), np.array(1, np.uint8)])
def test_a_stream_needs_samples(samples: Array) -> None:
    with pytest.raises(CalibrationError, match="no samples"):
        stream(samples)
