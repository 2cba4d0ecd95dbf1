"""Names on the command line, and which kernels a CPU with certain features runs."""

from __future__ import annotations

import pytest

from exporter.config import BuildConfig, VerifyConfig
from exporter.emulation.instruction_sets import INSTRUCTION_SETS, native_isa, parse_isas
from exporter.errors import ConfigError
from exporter.option import check_limits
from exporter.targets import TARGETS
from exporter.verification.machine import INSTRUCTION_SETS as FLAGS


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("native", ()),
        ("avx2", ("avx2",)),
        ("native,avx2", ("avx2",)),
        ("arm64-neon, avx2,avx2", ("arm64-neon", "avx2")),
    ],
)
def test_names_are_read_once_each_and_native_goes_without_saying(
    text: str, names: tuple[str, ...]
) -> None:
    assert parse_isas(text) == names


@pytest.mark.parametrize("text", ["avx3", "", "avx2,", "AVX2", "avx2 avx512"])
def test_what_is_no_instruction_set_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(ConfigError, match="Known: native, avx2, ") as error:
        parse_isas(text)
    assert "\n" not in str(error.value)


def test_a_build_refuses_it_before_anything_else() -> None:
    with pytest.raises(ConfigError, match="'avx3'"):
        check_limits(BuildConfig(verify=VerifyConfig(isa="native,avx3")))


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (("avx2",), "avx2"),
        (("avx2", "avx_vnni"), "avx-vnni"),
        (("avx2", "avx512f"), "avx512"),
        (("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"), "avx512-vnni"),
        (("asimd",), "arm64-neon"),
        (("asimd", "asimddp", "i8mm"), "arm64-dotprod"),
        ((), "native"),
    ],
)
def test_of_several_sets_the_best_is_the_one_that_runs(flags: tuple[str, ...], name: str) -> None:
    assert native_isa(flags) == name


def test_every_set_can_be_recognised_on_a_cpu() -> None:
    assert {entry.flag for entry in INSTRUCTION_SETS.values()} <= set(FLAGS)


def test_every_cpu_that_a_target_names_is_known() -> None:
    promised = {isa for target in TARGETS.values() for isa in target.isas}
    assert promised - set(INSTRUCTION_SETS) <= {"wasm-simd"}


def test_an_emulated_cpu_is_told_from_its_neighbours() -> None:
    emulated = [entry for entry in INSTRUCTION_SETS.values() if entry.cpu]
    assert [entry.name for entry in emulated] == ["avx2", "arm64-neon", "arm64-dotprod"]
    assert all(entry.has and entry.lacks for entry in emulated)
    assert len({(entry.has, entry.lacks) for entry in emulated}) == len(emulated)
