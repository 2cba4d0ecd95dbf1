from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.chromium import find_chromium, open_page
from exporter.report.evidence import ClassAccuracy
from exporter.report.files import report_files
from exporter.report.model import BuildReport, LayerWidth
from exporter.report.page.figures import MOST_CLASSES, cards, charts, plane
from exporter.report.page.page import page
from tests.sample_report import SAMPLE

CHROMIUM = find_chromium()
EVIL = '<script>alert(1)</script>"&<b>'
VOID = {"meta", "line", "circle", "br", "hr", "img", "path"}


def with_classes(count: int, name: str = "class") -> BuildReport:
    assert SAMPLE.evidence is not None
    classes = tuple(
        ClassAccuracy(
            name=f"{name} {number}", count=10, before=90.0, after=90.0 - number / 10,
            drop_points=number / 10, lost=1, gained=0, mcnemar_p=1.0,
        )
        for number in range(count)
    )  # fmt: skip
    accuracy = dataclasses.replace(SAMPLE.evidence.accuracy, classes=classes)
    return dataclasses.replace(
        SAMPLE, evidence=dataclasses.replace(SAMPLE.evidence, accuracy=accuracy)
    )


class Balanced(HTMLParser):
    """Fails where an element is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(report: BuildReport) -> Balanced:
    found = Balanced()
    found.feed(page(report))
    assert found.open == []
    return found


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    text = page(SAMPLE)

    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=|url\(|@import|https?://", text)
    assert "script" not in parsed(SAMPLE).names


def test_the_page_says_what_the_other_reports_say() -> None:
    text = " ".join(parsed(SAMPLE).text.split())
    model = SAMPLE.shipped_model

    assert f"{model.top1:.2f} %" in text
    assert SAMPLE.worst_class.name in text
    assert SAMPLE.machine.cpu in text
    for warning in SAMPLE.warnings:
        assert " ".join(warning.split()) in text


def test_names_from_files_of_others_are_text() -> None:
    assert SAMPLE.pruning is not None
    layers = (LayerWidth(layer=EVIL, before=32, after=16),)
    evil = dataclasses.replace(
        with_classes(3, EVIL),
        pruning=dataclasses.replace(SAMPLE.pruning, layers=layers),
        worst_class=dataclasses.replace(SAMPLE.worst_class, name=EVIL),
        machine=dataclasses.replace(SAMPLE.machine, cpu=EVIL),
    )

    found = parsed(evil)

    assert "script" not in found.names
    assert "b" not in {name for name in found.names if name not in parsed(SAMPLE).names}
    assert EVIL in found.text


def test_what_was_not_measured_leaves_no_hole() -> None:
    bare = dataclasses.replace(
        SAMPLE, evidence=None, pruning=None, quantization=None, intake=None, stages=(), recipe={},
        devices=(), instruction_sets=(), warnings=(), shipped="dense",
        models=dataclasses.replace(SAMPLE.models, small=None, int8=None),
    )  # fmt: skip

    assert [chart.title for chart in charts(bare)] == ["Time of one image"]
    assert "<h2>Gates</h2>" in page(bare)


def test_bars_stay_within_their_track() -> None:
    for report in (SAMPLE, with_classes(200)):
        for chart in charts(report):
            for bar in chart.bars:
                assert 0 <= bar.start <= bar.start + bar.length <= 100.001
                assert bar.low is None or 0 <= bar.low <= bar.high <= 100.001
        dots, (low, high), _ = plane(report)
        assert 0 <= low < high <= 100
        assert all(0 <= dot.x <= 100 and 0 <= dot.y <= 100 for dot in dots)


def test_of_many_classes_those_that_changed_most_are_drawn() -> None:
    (chart,) = (one for one in charts(with_classes(200)) if one.title == "Points lost by class")

    assert len(chart.bars) == MOST_CLASSES
    assert chart.bars[0].label == "class 199"
    assert f"The {MOST_CLASSES} of 200 classes" in chart.note


def test_losses_lie_right_of_the_line_and_gains_left() -> None:
    chart = next(one for one in charts(SAMPLE) if one.title == "Points lost by class")
    assert chart.zero is not None
    for bar in chart.bars:
        points = float(bar.text.split(" ")[0])
        if points > 0:
            assert bar.kind == "loss"
            assert bar.start == pytest.approx(chart.zero)
        else:
            assert bar.start + bar.length == pytest.approx(chart.zero)


def test_a_gain_is_called_one() -> None:
    gained = dataclasses.replace(SAMPLE, drop_points=-0.5)

    assert cards(gained)[0].figure == "0.50 points gained"
    assert cards(SAMPLE)[0].figure == f"{SAMPLE.drop_points:.2f} points lost"


def test_the_same_report_gives_the_same_bytes_under_the_names_asked_for() -> None:
    files = report_files(SAMPLE, "fleet")

    assert list(files) == ["fleet.json", "fleet.md", "fleet.html"]
    assert files == report_files(SAMPLE, "fleet")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_hangs_over_the_edge(tmp_path: Path, width: int) -> None:
    assert CHROMIUM is not None
    file = tmp_path / "report.html"
    file.write_text(page(with_classes(30, "a class with quite a long name indeed")))

    with open_page(CHROMIUM, "about:blank") as shown:
        shown.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=800, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        shown.call("Page.navigate", url=file.as_uri())
        shown.wait_for(
            "document.readyState === 'complete' && document.querySelector('svg') || null"
        )
        over = shown.evaluate(
            "[...document.querySelectorAll('main *')]"
            ".filter(e => !e.closest('.wide') && !e.closest('pre') && !e.closest('svg'))"
            ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
        )
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert over == 0
        assert shown.evaluate("document.querySelectorAll('figure').length") == 1 + len(
            charts(SAMPLE)
        )
        assert shown.evaluate("performance.getEntriesByType('resource').length") == 0
