"""Blue before red, and grey: red, green and blue go in, the same numbers come out."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from exporter.graph.normalization import NORMALIZED
from exporter.intake.channels import channel_matrix, use_rgb
from exporter.intake.names import rename
from tests.graph.graphs import operators
from tests.intake.files import SIDE, classifier, difference, image_input, run

EXACT = 1e-5
POOLED = [helper.make_node("MaxPool", ["data"], ["a"], kernel_shape=[1, 1])]


@pytest.mark.parametrize("behind", ["convolution", "pool"])
@pytest.mark.parametrize(("channels", "order"), [(3, "bgr"), (1, "rgb")])
def test_other_channels(channels: int, order: str, behind: str) -> None:
    first, start = (POOLED, "a") if behind == "pool" else ([], "data")
    shape = image_input("N", channels, SIDE, SIDE)
    user = classifier(opset=13, channels=channels, image=shape, first=first, start=start)
    core = classifier(opset=13, channels=channels, image=shape, first=first, start=start)
    rename(core, {"data": NORMALIZED})
    use_rgb(core, channel_matrix(channels, order))
    rgb = np.random.default_rng(0).normal(size=(4, 3, SIDE, SIDE)).astype(np.float32)
    weights = np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)
    own = rgb[:, ::-1] if order == "bgr" else (rgb * weights).sum(1, keepdims=True)
    wanted = run(user, data=np.ascontiguousarray(own))
    assert difference(run(core, normalized=rgb), wanted) < EXACT
    added = ["Conv"] if behind == "pool" else []
    assert operators(core) == [*added, *operators(user)]


def test_red_green_and_blue_stay_as_they_are() -> None:
    core = classifier(opset=13)
    rename(core, {"data": NORMALIZED})
    before = core.SerializeToString()
    use_rgb(core, channel_matrix(3, "rgb"))
    assert core.SerializeToString() == before
