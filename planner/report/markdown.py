"""Markdown for issues and pull requests: tables and text, no pictures."""

from __future__ import annotations

import re

from planner.report import comparing
from planner.report.blocks import Block, Bullets, Chart, Code, Document, Paragraph, Section, Table
from planner.report.content import build
from planner.report.registry import Subject, register

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")
_LEFT_OUT = ("terms",)


def plain(text: str) -> str:
    """Text that Markdown shows as it is: markup and HTML of its author have no effect, and it stays on one line."""
    line = " ".join(text.split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = _SPECIAL.sub(lambda match: match[0] if _harmless(line, match) else "\\" + match[0], line)
    return re.sub(r"^(\d+)([.)])(?=\s)", r"\1\\\2", line)


@register(
    "md", label="Markdown", ending="md", mime="text/markdown", position=30, many=lambda comparison: text_of(comparing.build(comparison))
)  # fmt: skip
def render(subject: Subject) -> bytes:
    """The report as Markdown, UTF-8. The arithmetic is left out: HTML and CSV hold it."""
    return text_of(build(subject))


def text_of(document: Document) -> bytes:
    """A document as Markdown, UTF-8."""
    parts = [f"# {plain(document.verdict)}", plain(" · ".join(document.headline))]
    if document.figures:
        parts.append(_table(document.figures_table))
    for section in document.sections:
        if section.name not in _LEFT_OUT:
            parts += _section(section)
    return ("\n\n".join(parts) + "\n").encode("utf-8")


def _section(section: Section) -> list[str]:
    return [f"## {plain(section.title)}", *(text for block in section.blocks if (text := _block(block)))]


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            return plain(block.text)
        case Bullets():
            return "\n".join(f"- {plain(item)}" for item in block.items)
        case Table():
            return _table(block)
        case Code():
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", block.text)), default=0))
            return f"{fence}{block.language}\n{block.text.rstrip()}\n{fence}"
        case Chart():
            return ""


def _table(table: Table) -> str:
    def row(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(plain(cell) for cell in cells) + " |"

    rule = "|" + "|".join("---:" if i in table.numeric else "---" for i in range(len(table.header))) + "|"
    return "\n".join([row(table.header), rule, *(row(cells) for cells in table.rows)])


def _harmless(line: str, match: re.Match[str]) -> bool:
    """A hyphen, plus or brace inside a line, and an underscore inside a word, mean nothing to Markdown; without a backslash they read better."""
    char, before, after = match[0], line[: match.start()][-1:], line[match.end() :][:1]
    if char in "-+#":
        return bool(line[: match.start()].strip())
    if char == "_":
        return before.isalnum() and after.isalnum()
    if char == "(":
        return before != "]"  # no link without a bracket before it
    return char in "){}!"
