"""``report.html``: the report for a browser."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from exporter.report.markdown import markdown
from exporter.report.model import BuildReport
from exporter.report.page.figures import cards, charts, plane
from exporter.report.verdict import NAMES, advice, outcome, remarks, verdict

if TYPE_CHECKING:
    from jinja2 import Environment

PAGE = "report.html"
_TEMPLATE = "report.html.jinja"
_FIRST = "\n## "
"""The part of report.md above its first heading is shown on top, in other words."""


def page(report: BuildReport) -> str:
    """Return the report as one HTML document that loads nothing and runs nothing."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    dots, accuracy, slowest = plane(report)
    everything = markdown(report)
    rest = everything[everything.index(_FIRST) :]
    # Raw HTML in the Markdown is shown as text; all names in it come from files of others.
    text = MarkdownIt("commonmark", {"html": False}).enable("table").render(rest)
    return (
        _environment()
        .get_template(_TEMPLATE)
        .render(
            report=report,
            shipped=NAMES[report.shipped],
            verdict=verdict(report),
            remarks=remarks(report),
            advice=advice(report),
            outcomes=[(gate, outcome(gate)) for gate in report.gates],
            cards=cards(report),
            dots=dots,
            accuracy=accuracy,
            slowest=slowest,
            charts=charts(report),
            details=Markup(
                text.replace("<table>", '<div class="wide"><table>').replace(
                    "</table>", "</table></div>"
                )
            ),
        )
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("exporter.report.page", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
