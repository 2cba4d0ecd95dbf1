from __future__ import annotations

import dataclasses
import tomllib

from exporter.report.markdown import markdown
from exporter.report.model import BudgetReport, NotMeasured, SaturationReport
from tests.sample_report import SAMPLE, WARNING


def headings(text: str) -> list[str]:
    return [line[3:] for line in text.splitlines() if line.startswith("## ")]


def test_a_full_report_has_every_section() -> None:
    assert headings(markdown(SAMPLE)) == [
        "Gates",
        "Accuracy",
        "Instruction sets",
        "Speed",
        "Devices",
        "Download",
        "Own ONNX file",
        "Pruning",
        "Quantization",
        "Machine",
        "Stages",
        "Recipe",
    ]


def test_sections_without_content_are_left_out() -> None:
    bare = dataclasses.replace(
        SAMPLE,
        intake=None,
        pruning=None,
        quantization=None,
        stages=(),
        recipe={},
        instruction_sets=(),
        devices=(),
    )

    assert headings(markdown(bare)) == ["Gates", "Accuracy", "Speed", "Download", "Machine"]


def test_every_table_is_well_formed() -> None:
    lines = markdown(SAMPLE).splitlines()

    tables = [line for line in lines if line.startswith("|")]
    starts = [index for index, line in enumerate(lines) if line.startswith("| ---")]
    assert len(starts) == 15
    for start in starts:
        width = lines[start].count(" | ")
        end = start
        while end < len(lines) and lines[end].startswith("|"):
            assert lines[end].count(" | ") == width
            end += 1
        assert lines[start - 2] == ""
    assert "| file size | 1.28 MB | 512.0 kB | 141.0 kB |" in tables
    assert "| block1.conv | 128 | 80 |" in tables
    assert "| head | 10 | they are the outputs |" in tables
    assert "| 2 | 37.5 % | 90.20 % | 6 | 97.70 % |" in tables
    assert "| int8 | 141.0 kB | 118.3 kB | 116.9 kB |" in tables
    assert "| train | 41.0 | no |" in tables


def test_the_recipe_can_be_read_as_toml() -> None:
    text = markdown(SAMPLE)

    block = text.split("```toml\n")[1].split("```")[0]

    assert tomllib.loads(block) == {
        "target": "cpu-int8",
        "train": {"model": "edge-vgg", "epochs": 0},
    }


def test_a_budget_stands_where_the_share_would() -> None:
    pruning = SAMPLE.pruning
    assert pruning is not None
    budget = BudgetReport(name="max-kb", limit=150.0, planned=141.125)
    changed = dataclasses.replace(pruning, asked_share=None, budget=budget)

    assert "40 % asked for." in markdown(SAMPLE)
    text = markdown(dataclasses.replace(SAMPLE, pruning=changed))
    assert "37.5 % of the channels removed, for max-kb 150: 141.125 reckoned." in text


def test_names_cannot_break_a_table() -> None:
    pruning = SAMPLE.pruning
    assert pruning is not None
    layer = dataclasses.replace(pruning.layers[0], layer="a|b")

    text = markdown(
        dataclasses.replace(SAMPLE, pruning=dataclasses.replace(pruning, layers=(layer,)))
    )

    assert "| a\\|b | 64 | 48 |" in text


def test_what_stays_float_says_why() -> None:
    assert "- 3 stay float: Gelu has no int8 kernel; use ReLU or ReLU6." in markdown(SAMPLE)


def test_quantization_aware_epochs_are_told_where_there_were_some() -> None:
    quantization = SAMPLE.quantization
    assert quantization is not None
    without = dataclasses.replace(quantization, aware_epochs=0)

    assert "learned to be rounded in 4 epochs." in markdown(SAMPLE)
    text = markdown(dataclasses.replace(SAMPLE, quantization=without))
    assert "learned to be rounded" not in text


def test_layers_that_saturate_are_a_table_and_safe_ones_a_line() -> None:
    quantization = SAMPLE.quantization
    assert quantization is not None
    found = quantization.saturation
    safe = dataclasses.replace(found, layers=found.layers[:1], images=0)
    unmeasured = dataclasses.replace(
        found.layers[1], clipped_share=NotMeasured(not_measured="no x86")
    )

    def lines(saturation: SaturationReport) -> list[str]:
        changed = dataclasses.replace(quantization, saturation=saturation)
        return markdown(dataclasses.replace(SAMPLE, quantization=changed)).splitlines()

    assert "| a\\|b | Gemm | 8 | 2 % | 0.12 % | 50 % |" in lines(found)
    (line,) = (line for line in lines(found) if line.startswith("- Saturation"))
    assert "possible in 1 of 2 layers. Measured on 64 calibration images" in line
    assert "- Saturation on x86 CPUs without VNNI: none, proven for every layer and image." in (
        lines(safe)
    )
    assert not any("| stem | Conv" in line for line in lines(found) + lines(safe))
    none = dataclasses.replace(found, layers=(unmeasured,), images=0)
    assert "| a\\|b | Gemm | 8 | 2 % | not measured | 50 % |" in lines(none)
    assert any("Not measured, since the target promises" in line for line in lines(none))


def test_what_was_not_measured_says_why() -> None:
    report = dataclasses.replace(SAMPLE, pinned_cores=NotMeasured(not_measured="no such call"))

    text = markdown(report)

    assert "not pinned to cores (no such call)" in text
    assert "frequency governor: unknown (this system has no cpufreq)" in text


def test_a_failed_report_says_so_and_what_to_try() -> None:
    gates = (SAMPLE.gates[0], dataclasses.replace(SAMPLE.gates[1], limit=7.0, passed=False))

    text = markdown(dataclasses.replace(SAMPLE, passed=False, bundle=None, gates=gates))

    assert "**Failed.**" in text
    assert "- Or accept the speed: --min-speedup 6.4." in text
    assert "| min-speedup | 6.42x faster, at least 7x is wanted | no |" in text


def test_what_was_warned_of_is_told_before_the_figures() -> None:
    text = markdown(dataclasses.replace(SAMPLE, warnings=(WARNING,)))

    assert text.index(WARNING) < text.index("|")


def test_an_own_file_is_told_about() -> None:
    text = markdown(SAMPLE)

    assert "- File: theirs.onnx, sha256 0f1e0f1e" in text
    assert "- Operators at its start that became part of the input: Transpose, Sub." in text
    assert "- Largest relative difference from it: 4.2e-07." in text
    assert SAMPLE.intake is not None
    plain = dataclasses.replace(
        SAMPLE.intake, opset=None, normalization=None, difference=None, warning=None,
        first_operators=(), dropped_softmax=False,
    )  # fmt: skip
    section = markdown(dataclasses.replace(SAMPLE, intake=plain)).split("## Own ONNX file\n\n")[1]
    assert len(section.split("\n\n")[0].splitlines()) == 2
