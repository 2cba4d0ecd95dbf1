from __future__ import annotations

import dataclasses
import json
import math

import pytest

from calibration import CalibrationError, Range, Ranges

RANGES = Ranges(
    model_digest="ab" * 32,
    data_digest="cd" * 32,
    method="mse",
    samples=512,
    by_tensor={"relu": Range(low=0.0, high=0.1), "conv": Range(low=-1 / 3, high=3.4e38)},
)


def document(**changes: object) -> str:
    return json.dumps(json.loads(RANGES.to_json()) | changes)


@pytest.mark.parametrize(
    ("low", "high"),
    [(math.nan, 1), (-1, math.nan), (-math.inf, 0), (0, math.inf), (0.1, 1), (-1, -0.1), (1, -1)],
)
def test_a_range_is_finite_and_contains_zero(low: float, high: float) -> None:
    with pytest.raises(CalibrationError, match=str(low)):
        Range(low=low, high=high)


def test_round_trip_is_exact() -> None:
    assert Ranges.from_json(RANGES.to_json()) == RANGES


def test_text_does_not_depend_on_the_order_of_tensors() -> None:
    turned = dict(reversed(list(RANGES.by_tensor.items())))

    assert dataclasses.replace(RANGES, by_tensor=turned).to_json() == RANGES.to_json()


def test_ranges_belong_to_one_model() -> None:
    RANGES.check_model("ab" * 32)
    with pytest.raises(CalibrationError, match=r"abababababab.*efefefefefef"):
        RANGES.check_model("ef" * 32)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        (RANGES.to_json()[:-20], "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "ranges"),
        (document(extra=1), "extra"),
        (document(format=2), "format 2"),
        (document(model=None), "must be text"),
        (document(data=1), "must be text"),
        (document(method=["mse"]), "must be text"),
        (document(samples=0), "samples is 0"),
        (document(samples=True), "samples is True"),
        (document(samples=1.5), "samples is 1.5"),
        (document(ranges=[]), "filled object"),
        (document(ranges={}), "filled object"),
        (document(ranges={"relu": 1}), "'relu'"),
        (document(ranges={"relu": [0]}), "'relu'"),
        (document(ranges={"relu": [0, 1, 2]}), "'relu'"),
        (document(ranges={"relu": [0, "1"]}), "'relu'"),
        (document(ranges={"relu": [False, 1]}), "'relu'"),
        (document(ranges={"relu": [0, math.nan]}), "'relu'"),
        (document(ranges={"relu": [-math.inf, 0]}), "'relu'"),
        (document(ranges={"relu": [0.5, 1]}), "'relu'"),
        (document(ranges={"relu": [0, 10**400]}), "'relu'"),
    ],
)
def test_damaged_files_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(CalibrationError, match="damaged") as caught:
        Ranges.from_json(text)

    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["format", "model", "data", "method", "samples", "ranges"])
def test_every_key_is_required(key: str) -> None:
    parsed = json.loads(RANGES.to_json())
    del parsed[key]
    with pytest.raises(CalibrationError, match=key):
        Ranges.from_json(json.dumps(parsed))
