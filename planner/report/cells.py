"""A document as plain tables of text: what CSV and XLSX write."""

from __future__ import annotations

from typing import NamedTuple

from planner.report.blocks import Bullets, Code, Document, Paragraph, Section, Table


class Sheet(NamedTuple):
    """A titled table. name: short, unique in its document · header: empty where the rows are sentences · numeric: columns of numbers as text."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sheets_of(document: Document) -> list[Sheet]:
    """Every table of a document in its order; sentences are rows of one cell. The first sheet is the first page."""
    first = [(document.verdict,), (" · ".join(document.headline),)]
    found = [Sheet("summary", "Summary", (), tuple(first))]
    if document.figures:
        table = document.figures_table
        found.append(Sheet("figures", "Figures", table.header, table.rows))
    for section in document.sections:
        found += _sheets(section)
    return found


def _sheets(section: Section) -> list[Sheet]:
    """The tables of a section, each its own sheet, and its sentences, together another."""
    tables = [block for block in section.blocks if isinstance(block, Table)]
    sentences: list[tuple[str, ...]] = []
    for block in section.blocks:
        if isinstance(block, Paragraph):
            sentences.append((block.text,))
        elif isinstance(block, Bullets):
            sentences += [(item,) for item in block.items]
        elif isinstance(block, Code):
            sentences += [(line,) for line in block.text.splitlines()]
    found = [
        Sheet(section.name if i == 0 else f"{section.name}-{i + 1}", section.title, table.header, table.rows) for i, table in enumerate(tables)
    ]
    if sentences:
        found.append(Sheet(f"{section.name}-notes" if tables else section.name, section.title, (), tuple(sentences)))
    return found
