from __future__ import annotations

import os
import platform
from importlib.metadata import version

import pytest

from exporter.report.model import NotMeasured
from exporter.verification.machine import describe_machine, parse_cpuinfo, parse_sysctl

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx_vnni amx_int8 avx512bw

processor\t: 1
model name\t: AMD EPYC
flags\t\t: fpu
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes asimddp sve i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""
APPLE = """machdep.cpu.brand_string: Apple M2
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_I8MM: 1
hw.optional.arm.FEAT_SME: 0
hw.optional.AdvSIMD: 1
"""
INTEL_MAC = """machdep.cpu.brand_string: Intel(R) Core(TM) i7-8569U CPU @ 2.80GHz
machdep.cpu.features: FPU VME SSE4.2 AVX1.0
machdep.cpu.leaf7_features: BMI1 AVX2 BMI2
hw.optional.avx512f: 0
"""


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        (X86, "AMD EPYC", ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")),
        (ARM, "", ("asimd", "asimddp", "i8mm")),
        ("flags : fpu sse2\n", "", ()),
    ],
)
def test_linux(text: str, name: str, found: tuple[str, ...]) -> None:
    assert parse_cpuinfo(text) == (name, found)


def test_linux_without_flags_is_unknown_rather_than_none() -> None:
    assert isinstance(parse_cpuinfo("model name : POWER9\n")[1], NotMeasured)


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        (APPLE, "Apple M2", ("asimd", "asimddp", "i8mm")),
        (INTEL_MAC, "Intel(R) Core(TM) i7-8569U CPU @ 2.80GHz", ("avx2",)),
    ],
)
def test_macos(text: str, name: str, found: tuple[str, ...]) -> None:
    assert parse_sysctl(text) == (name, found)


def test_macos_without_an_answer_is_unknown() -> None:
    assert isinstance(parse_sysctl("")[1], NotMeasured)


def test_this_machine() -> None:
    machine = describe_machine()

    assert machine.cpu
    assert machine.architecture == platform.machine()
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert machine.onnxruntime == version("onnxruntime")
    assert machine.python == platform.python_version()
