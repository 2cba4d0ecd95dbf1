"""A value that says why there is no number."""

from __future__ import annotations

from dataclasses import dataclass

DESCRIBED = {"use_attribute_docstrings": True}
"""pydantic's setting of every report type; a plain dict, so that the types import no pydantic."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NotMeasured:
    """Stands where a number could not be measured. It never counts as passed."""

    __pydantic_config__ = DESCRIBED

    not_measured: str
    """The reason."""
