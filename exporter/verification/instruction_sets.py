"""The shipped bytes on other instruction sets than this CPU's: what changes, and whether it may.

This machine's own set is measured by the run that measures everything else. Of the others, QEMU
emulates some (``exporter.emulation``), on a sample of the test images. They are compared with this
machine's own run on the same images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.artifacts import Artifact, Cache
from exporter.config import VerifyConfig
from exporter.data.splits import Split
from exporter.emulation.emulator import Emulator, find_emulator
from exporter.emulation.instruction_sets import INSTRUCTION_SETS, native_isa, parse_isas
from exporter.emulation.predict import predict_emulated, sample
from exporter.report.instruction_sets import InstructionSetReport, InstructionSetResult
from exporter.report.model import Gate, Machine, ModelReport, NotMeasured
from exporter.targets import Target
from exporter.verification.accuracy import accuracy, compare
from exporter.verification.machine import describe_machine

NO_TIME = NotMeasured(not_measured="numerics only, time not measured: it was emulated")


@dataclass(frozen=True, kw_only=True, slots=True)
class Emulated:
    """What one emulated CPU said."""

    emulator: Emulator
    logits: NDArray[np.float32]
    """``[images, classes]``, of the images that ``sample`` names."""


def find_emulators(config: VerifyConfig) -> tuple[Emulator, ...]:
    """Return the emulated CPUs that ``--isa`` asks for; this machine's own set needs none.

    Raises:
        ConfigError: an instruction set is unknown.
        EmulationError: one cannot be emulated here.
    """
    own = machine_isa(describe_machine())
    return tuple(find_emulator(isa) for isa in parse_isas(config.isa) if isa != own)


def machine_isa(machine: Machine) -> str:
    """Return the instruction set whose kernels run here; ``native`` where that is unknown."""
    flags = machine.instruction_sets
    return native_isa(() if isinstance(flags, NotMeasured) else flags)


def emulate(
    config: VerifyConfig,
    cache: Cache,
    emulators: tuple[Emulator, ...],
    model: Artifact,
    data: Split,
) -> tuple[Emulated, ...]:
    """Return what ``model`` says on each emulated CPU; raises what ``predict_emulated`` raises."""
    found = []
    for emulator in emulators:
        predictions = cache.run(predict_emulated, model, data, emulator, config.isa_images)
        found.append(Emulated(emulator=emulator, logits=np.load(predictions.logits.path)))
    return tuple(found)


def report_instruction_sets(
    target: Target,
    machine: Machine,
    shipped: ModelReport,
    emulated: tuple[Emulated, ...],
    native: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> tuple[InstructionSetReport, ...]:
    """Return one entry per instruction set: this machine's own, the promised and the emulated.

    Args:
        target: promises some.
        machine: this one.
        shipped: what was measured on this machine.
        emulated: what emulated CPUs said.
        native: this machine's logits of all test images, ``float32 [N, classes]``.
        labels: of all test images, ``int64 [N]``.
    """
    results = {machine_isa(machine): _own(machine, shipped)}
    results |= {found.emulator.isa: _result(found, native, labels) for found in emulated}
    return tuple(
        InstructionSetReport(
            name=name,
            promised=name in target.isas,
            result=results.get(name) or NotMeasured(not_measured=_why_not(name)),
        )
        for name in dict.fromkeys((*results, *target.isas))
    )


def check_instruction_sets(
    config: VerifyConfig, drop_points: float, entries: tuple[InstructionSetReport, ...]
) -> tuple[Gate, ...]:
    """Return a gate for each promised instruction set that was emulated.

    What is gated is the drop against the dense float model. It is reckoned from the drop on this
    machine, on all images, and what the other kernels lose beyond that, on the sample: a smaller
    error than that of the sample's own drop, and none at all where the kernels agree.

    Args:
        config: says what drop is accepted.
        drop_points: top-1 of dense float minus that of what ships, on this machine, or the upper
            end of its confidence interval.
        entries: what was measured.
    """
    gates = []
    for entry in entries:
        result = entry.result
        if not entry.promised or isinstance(result, NotMeasured) or result.emulator is None:
            continue
        drop = drop_points + result.drop_points
        gates.append(
            Gate(
                name=f"drop-{entry.name}",
                limit=config.max_drop,
                unit="points",
                measured=drop,
                passed=drop <= config.max_drop,
                confidence=config.confidence or None,
            )
        )
    return tuple(gates)


def _own(machine: Machine, shipped: ModelReport) -> InstructionSetResult:
    return InstructionSetResult(
        cpu=machine.cpu,
        emulator=None,
        onnxruntime=machine.onnxruntime,
        images=shipped.total,
        top1=shipped.top1,
        native_top1=shipped.top1,
        drop_points=0.0,
        changed_share=0.0,
        max_logit_difference=0.0,
        p50_ms=shipped.p50_ms,
    )


def _result(
    found: Emulated, native: NDArray[np.float32], labels: NDArray[np.int64]
) -> InstructionSetResult:
    chosen = sample(labels, len(found.logits))
    here, there, truth = native[chosen], found.logits, labels[chosen]
    change = compare(here, there, truth)
    return InstructionSetResult(
        cpu=found.emulator.cpu,
        emulator=f"QEMU {found.emulator.qemu}",
        onnxruntime=found.emulator.onnxruntime,
        images=len(chosen),
        top1=accuracy(there, truth).top1,
        native_top1=accuracy(here, truth).top1,
        drop_points=change.drop_points,
        changed_share=change.changed_share,
        max_logit_difference=float(np.abs(here - there).max()),
        p50_ms=NO_TIME,
    )


def _why_not(name: str) -> str:
    known = INSTRUCTION_SETS.get(name)
    if known is None:
        return "it is no CPU's; run the bundle where it will be used"
    if known.cpu:
        return f"not asked for (--isa {name})"
    return "QEMU does not translate it; run `exporter verify` on a CPU that has it"
