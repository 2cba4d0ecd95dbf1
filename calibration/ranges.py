"""Clipping ranges of a model's activations, and the file that holds them.

The file names the model (sha256) and the samples it was measured on: ONNX Runtime's own range file
names neither, and accepts the ranges of another model without a word.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calibration.errors import CalibrationError

FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Values from ``low`` to ``high`` are represented, others clipped; 0 lies between them."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise CalibrationError(f"The range {self.low} to {self.high} is not finite.")
        if not self.low <= 0.0 <= self.high:
            raise CalibrationError(f"The range {self.low} to {self.high} does not contain 0.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranges:
    """The ranges that one method chose for one model on one set of samples."""

    model_digest: str
    """Sha256 of the model file."""
    data_digest: str
    """Digest of the stream of samples."""
    method: str
    samples: int
    by_tensor: Mapping[str, Range]

    def check_model(self, model_digest: str) -> None:
        """Raise CalibrationError unless the ranges were measured on the model with that sha256."""
        if model_digest != self.model_digest:
            raise CalibrationError(
                f"The ranges were measured on the model {self.model_digest[:12]}…, not on "
                f"{model_digest[:12]}…. Calibrate this model."
            )

    def to_json(self) -> str:
        """Return the ranges as a JSON document; the same ranges give the same text."""
        document = {
            "format": FORMAT,
            "model": self.model_digest,
            "data": self.data_digest,
            "method": self.method,
            "samples": self.samples,
            "ranges": {
                name: [self.by_tensor[name].low, self.by_tensor[name].high]
                for name in sorted(self.by_tensor)
            },
        }
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Ranges:
        """Read what ``to_json`` wrote; raises CalibrationError if anything in it is off."""
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise _damaged(f"not JSON, {error}") from error
        if not isinstance(document, dict):
            raise _damaged("not a JSON object")
        keys = {"format", "model", "data", "method", "samples", "ranges"}
        if document.keys() != keys:
            raise _damaged(f"keys {', '.join(sorted(document.keys() ^ keys))} missing or unknown")
        if document["format"] != FORMAT:
            raise _damaged(f"format {document['format']!r}, this version reads {FORMAT}")
        if not all(isinstance(document[key], str) for key in ("model", "data", "method")):
            raise _damaged("model, data and method must be text")
        if not _is_count(document["samples"]):
            raise _damaged(f"samples is {document['samples']!r}, not a positive number")
        if not isinstance(document["ranges"], dict) or not document["ranges"]:
            raise _damaged("ranges is not a filled object")
        return cls(
            model_digest=document["model"],
            data_digest=document["data"],
            method=document["method"],
            samples=document["samples"],
            by_tensor={name: _range(name, pair) for name, pair in document["ranges"].items()},
        )


def _range(name: str, pair: Any) -> Range:
    if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_number, pair)):
        raise _damaged(f"the range of {name!r} is {pair!r}, not two numbers")
    try:
        return Range(low=float(pair[0]), high=float(pair[1]))
    except (CalibrationError, OverflowError) as error:
        raise _damaged(f"tensor {name!r}: {str(error).rstrip('.')}") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _damaged(reason: str) -> CalibrationError:
    return CalibrationError(f"The range file is damaged: {reason}. Calibrate again.")
