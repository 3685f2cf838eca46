"""PDF of the report by Typst: no browser, no system package, no network; charts stay vectors and text can be searched.

Texts reach the template as data (`report.typ` reads JSON), never as markup.
"""

from __future__ import annotations

import json
import re
from html import unescape
from importlib import resources
from importlib.util import find_spec
from typing import Any

from planner import __version__
from planner.errors import PlanError
from planner.report import comparing
from planner.report.blocks import Block, Bullets, Chart, Code, Document, Paragraph, Section, Table
from planner.report.content import build
from planner.report.html import charts_of
from planner.report.registry import Subject, register
from planner.summary import Figure

_LABEL = re.compile(r'aria-label="([^"]*)"')


@register(
    "pdf", label="PDF, A4", ending="pdf", mime="application/pdf", position=15,
    many=lambda comparison: compiled(content_of(comparing.build(comparison), comparing.charts_of(comparison))),
)  # fmt: skip
def render(subject: Subject) -> bytes:
    """The report as PDF. Raises `PlanError` where Typst is not installed."""
    return compiled(content(subject))


def compiled(told: dict[str, Any]) -> bytes:
    """What the template makes of a document. Raises `PlanError` where Typst is not installed."""
    if find_spec("typst") is None:
        raise PlanError("format", "pdf", "needs the package typst", "Install it (pip install typst), or write html and print it.")
    import typst

    template = resources.files("planner.report").joinpath("report.typ").read_bytes()
    made: bytes = typst.compile(template, format="pdf", sys_inputs={"data": json.dumps(told, ensure_ascii=False)}, ignore_system_fonts=True)
    return made


def content(subject: Subject) -> dict[str, Any]:
    """What the template reads."""
    return content_of(build(subject), charts_of(subject))


def content_of(document: Document, charts: dict[str, str]) -> dict[str, Any]:
    """What the template reads of any document."""
    return {
        "verdict": document.verdict,
        "headline": list(document.headline),
        "figures": [_figure(figure) for figure in document.figures],
        "sections": [_section(section, charts, section.name == document.second_page) for section in document.sections],
        "footer": f"Plumbline {__version__}",
    }


def _figure(figure: Figure) -> dict[str, Any]:
    notes = [text for text in (figure.interval_text, figure.chip, figure.basis_text) if text]
    return {"label": figure.label, "value": figure.value_text, "notes": notes}


def _section(section: Section, charts: dict[str, str], second_page: bool) -> dict[str, Any]:
    blocks = [made for block in section.blocks if (made := _block(block, charts, section.folded)) is not None]
    return {"title": section.title, "blocks": blocks, "rest": second_page}


def _block(block: Block, charts: dict[str, str], small: bool) -> dict[str, Any] | None:
    match block:
        case Paragraph():
            return {"kind": "paragraph", "text": block.text}
        case Bullets():
            return {"kind": "bullets", "items": list(block.items)}
        case Table():
            rows = [list(row) for row in block.rows]
            return {"kind": "table", "header": list(block.header), "rows": rows, "numeric": sorted(block.numeric), "small": small or len(block.header) > 6}
        case Code():
            return {"kind": "code", "text": block.text.rstrip()}
        case Chart():
            return _chart(charts.get(block.name, ""), block.caption)


def _chart(svg: str, caption: str) -> dict[str, Any] | None:
    if not svg:
        return None
    label = _LABEL.search(svg)
    drawn = svg.replace('font-family="inherit"', 'font-family="Libertinus Serif"')
    if "xmlns=" not in drawn:
        drawn = drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return {"kind": "chart", "caption": caption, "svg": drawn, "alt": unescape(label[1]) if label else ""}
