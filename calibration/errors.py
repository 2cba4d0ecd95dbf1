"""The one error of this package."""

from __future__ import annotations


class CalibrationError(ValueError):
    """The model, the samples or the ranges cannot be used; one line: what, and the way out."""
