from __future__ import annotations

import pytest

from exporter.artifacts import digest
from exporter.errors import ConfigError
from exporter.targets import TARGETS, Target, check_plannable, check_quantizes, find_target


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_how_a_network_is_packed_up_does_not_change_what_is_quantized_anew(target: Target) -> None:
    fields = ("name", "summary", "seven_bit_weights", "per_channel", "channel_multiple", "isas")
    assert digest(target) == digest({name: getattr(target, name) for name in fields})


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_a_target_is_what_its_name_says(target: Target) -> None:
    assert find_target(target.name) is target
    assert target.isas
    assert target.file_name == f"model.{target.file_format}"
    assert target.name.endswith("fp32") is (target.scheme == "float")


def test_7_bits_wherever_an_instruction_set_saturates() -> None:
    for target in TARGETS.values():
        if target.scheme == "int8" and {"avx2", "avx512"} & set(target.isas):
            assert target.seven_bit_weights != "never", target.name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cpu-int4", "4-bit weights"),
        ("cpu-w4a8", "4-bit weights"),
        ("web-uint4", "4-bit weights"),
        ("cpu-4bit", "4-bit weights"),
        ("cpu-int16", "16-bit activations"),
        ("cpu-a16w8", "16-bit activations"),
    ],
)
def test_4_and_16_bits_are_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"Unknown target '{name}'. Known: cpu-int8.* {reason}"):
        find_target(name)


@pytest.mark.parametrize("name", ["x", "cpu-int9", "arm64", "cpu-int48", "cpu-fp16"])
def test_other_names_get_the_list_alone(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_target(name)
    assert str(caught.value) == f"Unknown target {name!r}. Known: {', '.join(TARGETS)}."


def test_a_float_target_neither_quantizes_nor_foretells_an_int8_file() -> None:
    for target in TARGETS.values():
        check_plannable(target, None)
        check_plannable(target, "max_macs")
        if target.scheme == "int8":
            check_quantizes(target)
            check_plannable(target, "max_kb")
            continue
        with pytest.raises(ConfigError, match=f"{target.name} ships the float file"):
            check_quantizes(target)
        for budget in ("max_kb", "max_ms"):
            with pytest.raises(ConfigError, match="--max-parameters"):
                check_plannable(target, budget)
