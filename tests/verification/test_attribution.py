from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.report.model import ShippedModel
from exporter.verification.attribution import attribute

LABELS = np.zeros(20, np.int64)


def wrong_on(count: int) -> NDArray[np.float32]:
    """Logits that miss the first ``count`` of 20 images."""
    rows: NDArray[np.float32] = np.eye(2, dtype=np.float32)[(np.arange(20) < count).astype(int)]
    return rows


def test_every_step_of_a_build_is_told_apart() -> None:
    files: dict[ShippedModel, NDArray[np.float32]] = {
        "dense": wrong_on(1), "small": wrong_on(4), "int8": wrong_on(3),
    }  # fmt: skip
    networks: dict[ShippedModel, NDArray[np.float32]] = {
        "dense": wrong_on(1), "small": wrong_on(3),
    }  # fmt: skip

    steps = attribute(files, networks, LABELS)

    assert [(step.step, step.before, step.after) for step in steps] == [
        ("pruning", "dense torch", "pruned torch"),
        ("export", "pruned torch", "pruned ONNX"),
        ("quantization", "pruned ONNX", "int8"),
    ]
    assert [step.drop_points for step in steps] == [10.0, 5.0, -5.0]
    assert [(step.top1_before, step.top1_after) for step in steps] == [
        (95.0, 85.0), (85.0, 80.0), (80.0, 85.0),
    ]  # fmt: skip
    assert [step.changed_share for step in steps] == [0.1, 0.05, 0.05]
    assert steps[0].mcnemar_p == 0.5
    assert all(step.drop_ci[0] < step.drop_points < step.drop_ci[1] for step in steps)


@pytest.mark.parametrize(
    ("files", "networks", "steps"),
    [
        (["dense", "small", "int8"], [], ["pruning", "quantization"]),
        (["dense", "int8"], [], ["quantization"]),
        (["dense", "small"], [], ["pruning"]),
        (["dense"], [], []),
        (["dense", "int8"], ["dense"], ["export", "quantization"]),
        (["dense", "small"], ["dense", "small"], ["pruning", "export"]),
        (["dense"], ["dense"], ["export"]),
    ],
)
def test_steps_follow_the_models_that_there_are(
    files: list[ShippedModel], networks: list[ShippedModel], steps: list[str]
) -> None:
    found = attribute(
        dict.fromkeys(files, wrong_on(1)), dict.fromkeys(networks, wrong_on(1)), LABELS
    )

    assert [step.step for step in found] == steps


def test_pruning_that_nobody_saw_is_not_blamed_on_quantization() -> None:
    files: dict[ShippedModel, NDArray[np.float32]] = {"dense": wrong_on(1), "int8": wrong_on(3)}

    (step,) = attribute(files, {}, LABELS, pruned_unseen=True)

    assert (step.step, step.drop_points) == ("pruning and quantization", 10.0)
