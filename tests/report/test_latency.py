from __future__ import annotations

import dataclasses

from exporter.report.latency import latency_lines
from tests.sample_report import SAMPLE


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_model_has_its_times_with_their_interval() -> None:
    header, _, dense, small, int8 = map(cells, latency_lines(SAMPLE)[:5])

    assert header == ["model", "p50", "95 % CI", "p90", "p99"]
    assert dense == ["dense float", "0.591 ms", "not measured", "0.620 ms", "too few runs"]
    assert small[0] == "pruned float"
    assert int8 == ["int8", "0.092 ms", "0.092 to 0.0923 ms", "0.096 ms", "0.104 ms"]


def test_the_noise_floor_is_told() -> None:
    text = "\n".join(latency_lines(SAMPLE))

    assert "Noise floor: 1.004x." in text
    assert "The speed-up is outside of that." in text


def test_a_setting_inside_its_noise_has_no_speedup() -> None:
    assert SAMPLE.evidence is not None
    (setting,) = SAMPLE.evidence.latency.settings
    lost = dataclasses.replace(setting, beyond_noise=False)
    times = dataclasses.replace(SAMPLE.evidence.latency, settings=(setting, lost))
    report = dataclasses.replace(
        SAMPLE, evidence=dataclasses.replace(SAMPLE.evidence, latency=times)
    )
    first, second = (line for line in latency_lines(report) if line.startswith("| threads"))

    assert cells(first)[3] == "5.90x (5.80 to 6.00)"
    assert cells(second)[3] == "none beyond the noise"
    assert cells(first)[5] == "15,385"


def test_a_cold_start_tells_what_is_known_of_memory() -> None:
    lines = latency_lines(SAMPLE)

    assert cells(lines[-1]) == ["int8", "7.2 ms", "0.31 ms", "64.2 MB", "not measured"]
