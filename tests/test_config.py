"""Options that contradict each other are refused in one line that names both."""

from __future__ import annotations

import pytest

from exporter.config import BuildConfig, PruneConfig, VerifyConfig
from exporter.errors import ConfigError
from exporter.option import check_limits

CONTRADICTIONS = [
    (PruneConfig(prune=0.4, max_kb=100.0), "--prune and --max-kb exclude each other"),
    (PruneConfig(prune=0.0, max_macs=100), "--prune and --max-macs exclude each other"),
    (PruneConfig(max_parameters=9, max_ms=0.1), "--max-parameters and --max-ms exclude each"),
    (PruneConfig(unit="weights", max_ms=0.1), "--max-ms needs --unit channels"),
    (
        PruneConfig(unit="weights", allocate="sensitivity"),
        "--allocate sensitivity needs --unit channels",
    ),
    (PruneConfig(steps=3), "--steps 3 needs --schedule linear, cubic or geometric"),
    (PruneConfig(teacher="folder", distill=0.0), "--teacher needs a --distill above 0"),
    (PruneConfig(distill_auto=True, distill=0.0), "--distill-auto needs a --distill above 0"),
    (PruneConfig(prune=1.0), "--prune is 1.0, but must lie between 0 and 0.99"),
    (PruneConfig(max_kb=-1.0), "--max-kb is -1.0, but must lie between 0 and"),
]


@pytest.mark.parametrize(("config", "message"), CONTRADICTIONS)
def test_contradictions_are_refused(config: PruneConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        check_limits(BuildConfig(prune=config))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        PruneConfig(),
        PruneConfig(prune=0.0),
        PruneConfig(unit="weights", prune=0.9),
        PruneConfig(max_kb=100.0, schedule="cubic", steps=5, allocate="sensitivity"),
        PruneConfig(steps=1),
    ],
)
def test_what_goes_together_is_accepted(config: PruneConfig) -> None:
    check_limits(BuildConfig(prune=config))


def test_a_budget_in_milliseconds_is_one_for_one_thread() -> None:
    config = BuildConfig(prune=PruneConfig(max_ms=0.1), verify=VerifyConfig(threads=2))
    with pytest.raises(ConfigError, match=r"^--max-ms .* --threads is 2"):
        check_limits(config)


def test_what_stands_for_the_defaults() -> None:
    assert PruneConfig().share == 0.25
    assert PruneConfig().budget is None
    assert PruneConfig(max_kb=12.5).budget == ("max_kb", 12.5)
    assert PruneConfig().rounds == 1
    assert PruneConfig(schedule="cubic").rounds == 4
    assert PruneConfig(schedule="cubic", steps=7).rounds == 7
