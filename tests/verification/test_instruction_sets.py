"""One file on several instruction sets: what is compared, what is gated, what is not measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.artifacts import Cache
from exporter.config import VerifyConfig
from exporter.data.splits import Splits
from exporter.emulation.instruction_sets import INSTRUCTION_SETS, native_isa
from exporter.emulation.predict import sample
from exporter.errors import EmulationError
from exporter.report.instruction_sets import InstructionSetReport
from exporter.report.model import ModelReport, NotMeasured
from exporter.targets import Target, find_target
from exporter.verification import instruction_sets as module
from exporter.verification.instruction_sets import (
    Emulated,
    check_instruction_sets,
    find_emulators,
    machine_isa,
    report_instruction_sets,
)
from exporter.verification.machine import describe_machine
from exporter.verification.verify import Candidate, verify
from tests.emulation import fake
from tests.sample_report import SAMPLE
from tests.verification.linear_model import RIGHT, linear_model, qdq_model

ALL = find_target("cpu-int8")
LABELS = np.arange(100, dtype=np.int64) % 2
RIGHT_LOGITS = np.eye(2, dtype=np.float32)[LABELS]


@pytest.fixture
def avx512_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "machine_isa", lambda machine: "avx512-vnni")


def shipped() -> ModelReport:
    assert SAMPLE.models.int8 is not None
    return SAMPLE.models.int8


def reported(
    emulated: tuple[Emulated, ...], native: NDArray[np.float32] = RIGHT_LOGITS, target: Target = ALL
) -> dict[str, InstructionSetReport]:
    entries = report_instruction_sets(target, SAMPLE.machine, shipped(), emulated, native, LABELS)
    return {entry.name: entry for entry in entries}


def spoilt(monkeypatch: pytest.MonkeyPatch, wrong: int, isa: str = "avx2") -> Emulated:
    """An emulated CPU that takes the first images of class 0 for class 1."""
    logits = RIGHT_LOGITS.copy()
    logits[: 2 * wrong : 2] = (0.0, 2.0)
    return Emulated(emulator=fake.emulator(monkeypatch, isa), logits=logits)


@pytest.mark.usefixtures("avx512_vnni")
def test_what_an_emulated_cpu_changes_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = reported((spoilt(monkeypatch, wrong=3),))["avx2"].result

    assert not isinstance(found, NotMeasured)
    assert (found.cpu, found.emulator) == ("none", "QEMU 0.0")
    assert found.images == 100
    assert (found.top1, found.native_top1, found.drop_points) == (97.0, 100.0, 3.0)
    assert found.changed_share == 0.03
    assert found.max_logit_difference == 2.0
    assert isinstance(found.p50_ms, NotMeasured)
    assert "numerics only" in found.p50_ms.not_measured


@pytest.mark.usefixtures("avx512_vnni")
def test_a_sample_is_compared_with_this_machine_on_the_same_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    native = np.arange(200, dtype=np.float32).reshape(100, 2)
    chosen = sample(LABELS, 10)
    emulated = Emulated(emulator=fake.emulator(monkeypatch, "avx2"), logits=native[chosen])

    found = reported((emulated,), native)["avx2"].result

    assert not isinstance(found, NotMeasured)
    assert (found.images, found.changed_share, found.max_logit_difference) == (10, 0.0, 0.0)


@pytest.mark.usefixtures("avx512_vnni")
def test_what_was_not_run_is_not_measured_and_says_why() -> None:
    entries = reported(())

    assert set(entries) == set(ALL.isas)
    own = entries.pop("avx512-vnni").result
    assert not isinstance(own, NotMeasured)
    assert (own.emulator, own.top1, own.p50_ms) == (None, shipped().top1, shipped().p50_ms)
    reasons = {
        name: entry.result.not_measured
        for name, entry in entries.items()
        if isinstance(entry.result, NotMeasured)
    }
    assert set(reasons) == set(entries)
    assert "--isa avx2" in reasons["avx2"]
    assert "on a CPU that has it" in reasons["avx-vnni"]


@pytest.mark.usefixtures("avx512_vnni")
def test_only_what_the_target_promises_is_a_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    emulated = (spoilt(monkeypatch, wrong=3), spoilt(monkeypatch, wrong=9, isa="arm64-neon"))
    entries = reported(emulated, target=find_target("cpu-int8-avx2"))
    assert [name for name, entry in entries.items() if entry.promised] == ["avx2", "avx512"]

    gates = check_instruction_sets(VerifyConfig(), 0.0, tuple(entries.values()))

    assert [gate.name for gate in gates] == ["drop-avx2"]


@pytest.mark.usefixtures("avx512_vnni")
@pytest.mark.parametrize(
    ("here", "wrong", "passed"),
    [(0.0, 0, True), (1.0, 0, True), (0.0, 1, True), (0.5, 1, False), (0.0, 2, False)],
)
def test_the_gate_adds_what_is_lost_there_to_what_is_lost_here(
    monkeypatch: pytest.MonkeyPatch, here: float, wrong: int, passed: bool
) -> None:
    entries = tuple(reported((spoilt(monkeypatch, wrong),)).values())

    (gate,) = check_instruction_sets(VerifyConfig(max_drop=1.0), here, entries)

    assert (gate.limit, gate.measured, gate.passed) == (1.0, here + wrong, passed)


def test_this_machines_own_set_needs_no_emulator() -> None:
    own = machine_isa(describe_machine())
    assert find_emulators(VerifyConfig(isa=f"native,{own}")) == ()
    flags = describe_machine().instruction_sets
    assert own == native_isa(() if isinstance(flags, NotMeasured) else flags)


@pytest.mark.usefixtures("avx512_vnni")
def test_what_cannot_be_emulated_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    with pytest.raises(EmulationError, match="avx-vnni cannot be emulated"):
        find_emulators(VerifyConfig(isa="avx-vnni"))


@pytest.mark.usefixtures("avx512_vnni")
def test_verify_runs_the_shipped_file_there_and_gates_it(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = fake.emulator(monkeypatch, "avx2")
    monkeypatch.setattr(module, "find_emulator", {"avx2": emulator}.__getitem__)
    dense = Candidate(file=linear_model(tmp_path / "d.onnx", RIGHT), parameters=9, macs=1200)
    int8 = Candidate(file=qdq_model(tmp_path / "q.onnx"), parameters=9, macs=1200)
    config = VerifyConfig(timing_seconds=0.1, min_speedup=0.0, isa="native,avx2", isa_images=9)
    cache = Cache(tmp_path / "cache")

    report = verify(config, cache, ALL, dense, None, int8, splits.test, splits.contract.classes)

    assert [gate.name for gate in report.gates] == ["max-drop", "min-speedup", "drop-avx2"]
    assert report.gates[2].measured == report.drop_points == 0.0
    results = {entry.name: entry.result for entry in report.instruction_sets}
    assert list(results)[:2] == ["avx512-vnni", "avx2"]
    assert set(results) == set(ALL.isas) <= set(INSTRUCTION_SETS)
    avx2 = results["avx2"]
    assert not isinstance(avx2, NotMeasured)
    assert (avx2.images, avx2.top1, avx2.max_logit_difference) == (9, 100.0, 0.0)
    assert [run.name for run in cache.runs].count("predict-emulated") == 1
