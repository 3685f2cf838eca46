"""HTML in one file: no script, no request, light, and clean on A4. Charts are inline SVG.

Every text goes through `html.escape`, and a content security policy forbids scripts and connections, should that ever be forgotten.
"""

from __future__ import annotations

from html import escape
from typing import Final

from planner import __version__
from planner.report import comparing, pipeline, svg
from planner.report.blocks import Block, Bullets, Chart, Code, Document, Paragraph, Section, Table
from planner.report.content import build
from planner.report.registry import Subject, register
from planner.report.style import STYLE
from planner.summary import Figure, kind_parts, memory_parts

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_MARKS: Final = {"fits": "✓", "does-not-fit": "✕", "close": "≈", "unknown": "?"}


@register(
    "html", label="HTML, prints to A4", ending="html", mime="text/html", position=10,
    many=lambda comparison: page(comparing.build(comparison), comparing.charts_of(comparison)),
)  # fmt: skip
def render(subject: Subject) -> bytes:
    """The report as one self-contained page, UTF-8."""
    return page(build(subject), charts_of(subject))


def page(document: Document, charts: dict[str, str]) -> bytes:
    """A document with its charts as one self-contained page, UTF-8."""
    body = "\n".join([_head(document), *(_section(section, charts, section.name == document.second_page) for section in document.sections)])
    title = escape(f"{document.verdict} · {document.headline[0]}")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<title>{title}</title>
<style>
{STYLE}</style>
</head>
<body>
<main>
{body}
<footer>Plumbline {escape(__version__)}</footer>
</main>
</body>
</html>
""".encode()


def charts_of(subject: Subject) -> dict[str, str]:
    """Every chart as SVG, by the name that the document calls it; empty where there is nothing to draw."""
    estimate = subject.estimate
    return {
        "memory": svg.memory_bar(memory_parts(estimate), estimate.usable_memory_bytes),
        "curve": svg.memory_curve(estimate.memory_curve, estimate.usable_memory_bytes),
        "time": svg.time_bars(kind_parts(estimate)),
        "timeline": pipeline.timeline_svg(pipeline.timeline_of(estimate)),
        "stages": pipeline.stages_svg(estimate),
    }


def _head(document: Document) -> str:
    model, *rest = document.headline
    figures = "\n".join(_figure(figure) for figure in document.figures)
    shown = f'<div class="figures">\n{figures}\n</div>\n' if figures else ""
    mark = _MARKS[document.state]
    return (
        f'<header>\n<h1 class="{document.state}"><span aria-hidden="true">{mark}</span> {escape(document.verdict)}</h1>\n'
        f'<p class="run"><strong>{escape(model)}</strong>{"".join(f" · {escape(part)}" for part in rest)}</p>\n'
        f"{shown}</header>"
    )


def _figure(figure: Figure) -> str:
    lines = (
        ("label", figure.label),
        ("value", figure.value_text),
        ("interval", figure.interval_text),
        ("chip", figure.chip),
        ("basis", figure.basis_text),
    )
    return (
        '<div class="figure">'
        + "".join(f'<span class="{kind}">{escape(text)}</span>' for kind, text in lines if text)
        + "</div>"
    )


def _section(section: Section, charts: dict[str, str], second_page: bool) -> str:
    blocks = "\n".join(_block(block, charts) for block in section.blocks)
    title = escape(section.title)
    start = f'<section id="{section.name}"' + (' class="rest">' if second_page else ">")
    if section.folded:
        return f'{start}\n<details>\n<summary><h2>{title}</h2></summary>\n{blocks}\n</details>\n</section>'
    return f'{start}\n<h2>{title}</h2>\n{blocks}\n</section>'


def _block(block: Block, charts: dict[str, str]) -> str:
    match block:
        case Paragraph():
            return f"<p>{escape(block.text)}</p>"
        case Bullets():
            return "<ul>\n" + "\n".join(f"<li>{escape(item)}</li>" for item in block.items) + "\n</ul>"
        case Table():
            return _table(block)
        case Code():
            return f"<pre><code>{escape(block.text.rstrip())}</code></pre>"
        case Chart():
            caption = f"<p><strong>{escape(block.caption)}</strong></p>" if block.caption else ""
            return f'<div class="chart">{caption}{drawn}</div>' if (drawn := charts.get(block.name, "")) else ""


def _table(table: Table) -> str:
    def cell(index: int, text: str, tag: str) -> str:
        kind = ' class="number"' if index in table.numeric else ""
        scope = ' scope="col"' if tag == "th" else ""
        return f"<{tag}{scope}{kind}>{escape(text)}</{tag}>"

    head = "".join(cell(i, text, "th") for i, text in enumerate(table.header))
    rows = "\n".join(
        "<tr>" + "".join(cell(i, text, "td") for i, text in enumerate(row)) + "</tr>" for row in table.rows
    )
    many = ' class="many"' if len(table.header) > 6 else ""
    return f'<div class="wide"><table{many}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>'
