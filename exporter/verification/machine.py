"""The machine that measures: what decides how fast int8 is, and what could disturb the times."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from exporter.report.model import Machine, NotMeasured

INSTRUCTION_SETS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
)
"""What ONNX Runtime's int8 kernels are chosen by, in Linux's spelling."""

_MACOS_NAMES = {
    "AVX2": "avx2",
    "AVX512F": "avx512f",
    "AVX512VNNI": "avx512_vnni",
    "hw.optional.AdvSIMD": "asimd",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
}
_CPUINFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def describe_machine() -> Machine:
    """Return what can be found out about this machine; nothing that is missing is an error."""
    cpu, instruction_sets = _cpu()
    return Machine(
        cpu=cpu or platform.processor() or "unknown",
        architecture=platform.machine(),
        instruction_sets=instruction_sets,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cores(),
        load_average=_load_average(),
        governor=_governor(),
        operating_system=platform.platform(terse=True),
        python=platform.python_version(),
        onnxruntime=version("onnxruntime"),
    )


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...] | NotMeasured]:
    """Return the CPU's name (may be empty) and known instruction sets from ``/proc/cpuinfo``."""
    name = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    return name[1].strip() if name else "", _known(set(flags[1].split()) if flags else None)


def parse_sysctl(text: str) -> tuple[str, tuple[str, ...] | NotMeasured]:
    """Return the same from the output of macOS's ``sysctl machdep.cpu hw.optional``."""
    values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
    listed = " ".join(
        values.get(f"machdep.cpu.{key}", "") for key in ("features", "leaf7_features")
    )
    names = {key for key, value in values.items() if value.strip() == "1"} | set(listed.split())
    found = {ours for theirs, ours in _MACOS_NAMES.items() if theirs in names}
    return values.get("machdep.cpu.brand_string", "").strip(), _known(found if values else None)


def _known(flags: set[str] | None) -> tuple[str, ...] | NotMeasured:
    if flags is None:
        return NotMeasured(not_measured="this system does not list them")
    return tuple(name for name in INSTRUCTION_SETS if name in flags)


def _cpu() -> tuple[str, tuple[str, ...] | NotMeasured]:
    if _CPUINFO.is_file():
        return parse_cpuinfo(_CPUINFO.read_text(encoding="utf-8", errors="replace"))
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "machdep.cpu", "hw.optional"]
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return "", _known(None)
        return parse_sysctl(answer.stdout)
    return "", _known(None)


def _cores() -> int:
    return os.cpu_count() or 1


def _load_average() -> float | NotMeasured:
    if not hasattr(os, "getloadavg"):
        return NotMeasured(not_measured="this system keeps none")
    return round(os.getloadavg()[0], 2)


def _governor() -> str | NotMeasured:
    try:
        return _GOVERNOR.read_text(encoding="ascii").strip()
    except OSError:
        return NotMeasured(not_measured="this system has no cpufreq")
