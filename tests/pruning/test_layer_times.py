"""Sums by hand with a clock that is made up; the table on disk; one layer measured for real."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from torch import Tensor, nn

from exporter.contract import InputContract
from exporter.errors import OutputError
from exporter.pruning import layer_times
from exporter.pruning.layer_shapes import LayerShape
from exporter.pruning.layer_times import EMPTY_RUN, estimate_ms, machine_key, measure_ms, table_path
from exporter.targets import find_target
from exporter.verification.machine import describe_machine

CONTRACT = InputContract(height=8, width=8, classes=("a", "b"))
TARGET = find_target("cpu-int8")
PER_TENSOR = dataclasses.replace(TARGET, per_channel=False)
MS = {"conv": 2.0, "flatten": 0.25, "linear": 0.5}


class Twice(nn.Module):
    """The same convolution two times, then a linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3 * 64, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(self.conv(pixels)).flatten(1))
        return logits


class FakeClock:
    """Known times by kind; notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []

    def __call__(self, layer: LayerShape | None, per_channel: bool) -> float:
        self.asked.append((str(layer), per_channel))
        return MS[layer.kind] if layer else 0.125


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_network_is_the_sum_of_its_layers_and_an_empty_run(
    clock: FakeClock, tmp_path: Path
) -> None:
    total = estimate_ms(Twice(), CONTRACT, TARGET, folder=tmp_path, measure=clock)
    assert total == 0.125 + 2 * 2.0 + 0.25 + 0.5
    assert clock.asked == [  # each once
        ("None", True),
        ("conv 3>3 8x8>8x8 kernel 3x3 padding 1x1", True),
        ("flatten 3>192 8x8>1x1", True),
        ("linear 192>2 1x1>1x1", True),
    ]


def test_what_is_known_is_not_measured_again(clock: FakeClock, tmp_path: Path) -> None:
    first = estimate_ms(Twice(), CONTRACT, TARGET, folder=tmp_path, measure=clock)
    asked = len(clock.asked)
    assert estimate_ms(Twice(), CONTRACT, TARGET, folder=tmp_path, measure=clock) == first
    assert len(clock.asked) == asked
    estimate_ms(
        nn.Sequential(Twice(), nn.Linear(2, 3)), CONTRACT, TARGET, folder=tmp_path, measure=clock
    )
    assert clock.asked[asked:] == [("linear 2>3 1x1>1x1", True)]


def test_another_format_of_weights_has_times_of_its_own(clock: FakeClock, tmp_path: Path) -> None:
    estimate_ms(Twice(), CONTRACT, TARGET, folder=tmp_path, measure=clock)
    asked = len(clock.asked)
    estimate_ms(Twice(), CONTRACT, PER_TENSOR, folder=tmp_path, measure=clock)
    assert [per_channel for _, per_channel in clock.asked[asked:]] == [False] * 3
    table = json.loads(table_path(tmp_path).read_text())
    assert table["linear 192>2 1x1>1x1 per channel"] == 0.5
    assert table["linear 192>2 1x1>1x1 per tensor"] == 0.5
    assert table[EMPTY_RUN] == 0.125
    assert len(table) == 7


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1, 2]",
        b'{"empty run": "soon"}',
        b'{"empty run": -1}',
        b'{"empty run": NaN}',
        b"\xff",
    ],
)
def test_a_damaged_table_is_measured_again(
    content: bytes, clock: FakeClock, tmp_path: Path
) -> None:
    path = table_path(tmp_path)
    path.write_bytes(content)
    assert estimate_ms(Twice(), CONTRACT, TARGET, folder=tmp_path, measure=clock) == 4.875
    assert json.loads(path.read_text())[EMPTY_RUN] == 0.125
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]  # no draft is left


def test_what_was_measured_before_a_kill_is_kept(clock: FakeClock, tmp_path: Path) -> None:
    def killed(layer: LayerShape | None, per_channel: bool) -> float:
        if layer and layer.kind == "flatten":
            raise KeyboardInterrupt
        return clock(layer, per_channel)

    with pytest.raises(KeyboardInterrupt):
        estimate_ms(Twice(), CONTRACT, TARGET, folder=tmp_path, measure=killed)
    estimate_ms(Twice(), CONTRACT, TARGET, folder=tmp_path, measure=clock)
    assert len(clock.asked) == 4


def test_another_machine_has_a_table_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = describe_machine()
    keys = [machine_key()]
    for change in (
        {"cpu": "another"},
        {"instruction_sets": ("avx2",)},
        {"onnxruntime": "9.9.9"},
    ):
        elsewhere = dataclasses.replace(here, **change)
        monkeypatch.setattr(layer_times, "describe_machine", lambda found=elsewhere: found)
        machine_key.cache_clear()
        keys.append(machine_key())
    busy = dataclasses.replace(here, load_average=12.5)
    monkeypatch.setattr(layer_times, "describe_machine", lambda: busy)
    machine_key.cache_clear()
    assert machine_key() == keys[0]
    assert len(set(keys)) == 4
    monkeypatch.undo()
    machine_key.cache_clear()


def test_the_table_lies_in_the_cache_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = f"layer-times-{machine_key()}.json"
    assert table_path(tmp_path) == tmp_path / name
    monkeypatch.setenv("EXPORTER_CACHE", str(tmp_path / "mine"))
    assert table_path(None) == tmp_path / "mine" / name
    monkeypatch.delenv("EXPORTER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert table_path(None) == tmp_path / "edge-exporter" / name


def test_a_folder_that_cannot_be_written_is_refused(clock: FakeClock, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--cache"):
        estimate_ms(Twice(), CONTRACT, TARGET, folder=tmp_path / "file" / "x", measure=clock)


def test_a_layer_can_be_measured_here() -> None:
    layer = LayerShape(
        kind="conv", inputs=16, outputs=16, size=(16, 16), out_size=(16, 16), kernel=(3, 3),
        padding=(1, 1),
    )  # fmt: skip
    for found in (measure_ms(layer, True), measure_ms(None, True)):
        assert math.isfinite(found)
        assert found > 0
