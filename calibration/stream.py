"""Where calibration samples come from: batches that can be gone through more than once.

ONNX Runtime's own ``CalibrationDataReader`` is exhausted after one pass, which is why its
histogram calibrators keep every activation of every batch in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.errors import CalibrationError

Array = NDArray[np.generic]


class CalibrationStream(Protocol):
    """Yields the same batches in the same order, as often as it is asked to."""

    @property
    def digest(self) -> str:
        """Digest of the samples and their order."""
        ...

    def __iter__(self) -> Iterator[Mapping[str, Array]]:
        """Yield one batch at a time: model input name to array, samples along axis 0."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ArrayStream:
    """Batches of one array ``[N, ...]``, memory-mapped or not; the last batch may be smaller."""

    samples: Array
    input_name: str
    batch_size: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise CalibrationError(f"The batch size is {self.batch_size}, but must be at least 1.")
        if self.samples.ndim < 1 or len(self.samples) == 0:
            raise CalibrationError("There are no samples to calibrate on; give at least one.")

    @property
    def digest(self) -> str:
        """Sha256 of the samples' type, shape and content; the batch size does not matter."""
        state = hashlib.sha256(f"{self.samples.dtype.str} {self.samples.shape}".encode())
        for batch in self:
            state.update(batch[self.input_name].tobytes())
        return state.hexdigest()

    def __iter__(self) -> Iterator[Mapping[str, Array]]:
        """Yield batches in order; only the batch in hand is in memory."""
        for start in range(0, len(self.samples), self.batch_size):
            yield {
                self.input_name: np.ascontiguousarray(self.samples[start : start + self.batch_size])
            }
