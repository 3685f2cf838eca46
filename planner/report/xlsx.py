"""XLSX: a sheet for every table of the report, and the ledger with numbers as numbers. Text is text: nothing of it is run as a formula."""

from __future__ import annotations

import datetime as dt
import io
import math
import re
from importlib.util import find_spec
from typing import Any, Final

from planner.errors import PlanError
from planner.report import comparing
from planner.report.blocks import Document
from planner.report.cells import sheets_of
from planner.report.content import build
from planner.report.registry import Comparison, Subject, register

_MOST: Final = 32_767
"""Characters that a cell holds (Excel's specification)."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_WIDEST: Final = 70
Row = tuple[Any, ...]


def _render_many(comparison: Comparison) -> bytes:
    header = ("Rank", "Plan", "Time [s]", "Cost [USD]", "Energy [kWh]", "Reserved [bytes]", "Chance that it fits", "Fits", "Nothing beats it")
    rows: list[Row] = [
        (row.rank, row.name, row.time, row.cost, row.energy, row.reserved, row.chance, _yes(row.estimate.fits), _yes(row.efficient))
        for row in comparison.ranked()
    ]
    return book(comparing.build(comparison), ("Plans", header, rows))


@register(
    "xlsx", label="XLSX, every table", ending="xlsx", mime="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", position=45,
    many=_render_many,
)  # fmt: skip
def render(subject: Subject) -> bytes:
    """The report's tables and the ledger as a workbook. Raises `PlanError` where XlsxWriter is not installed."""
    header = ("Term", "Value", "Unit", "Formula", "Inputs", "Source")
    rows: list[Row] = [
        (t.name, t.value, t.unit, t.formula, "; ".join(f"{symbol} = {value}" for symbol, value in t.inputs.items()), t.source)
        for t in subject.estimate.terms
    ]
    return book(build(subject), ("Ledger", header, rows))


def book(document: Document, numbers: tuple[str, tuple[str, ...], list[Row]]) -> bytes:
    """A workbook of a document. numbers: name, header and rows of the sheet that holds numbers in SI units. The same document gives the same bytes."""
    if find_spec("xlsxwriter") is None:
        raise PlanError("format", "xlsx", "needs the package XlsxWriter", "Install it (pip install XlsxWriter), or write csv.")
    import xlsxwriter

    out = io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False, "nan_inf_to_errors": False}
    with xlsxwriter.Workbook(out, options) as workbook:
        workbook.set_properties({"title": document.verdict[:255], "created": dt.datetime(2000, 1, 1)})
        head = workbook.add_format({"bold": True, "bottom": 1, "text_wrap": True, "valign": "top"})
        cell, number = workbook.add_format({"text_wrap": True, "valign": "top"}), workbook.add_format({"valign": "top"})
        tables: list[tuple[str, tuple[str, ...], list[Row]]] = [(s.name, s.header, list(s.rows)) for s in sheets_of(document) if s.name != "terms"]
        for name, header, rows in [*tables, numbers]:
            page = workbook.add_worksheet(name[:31])
            for column, width in enumerate(_widths(header, rows)):
                page.set_column(column, column, width)
            for column, text in enumerate(header):
                page.write_string(0, column, clean(text), head)
            if header:
                page.freeze_panes(1, 0)
            for line, row in enumerate(rows, start=1 if header else 0):
                for column, value in enumerate(row):
                    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                        page.write_number(line, column, value, number)
                    elif value is not None:
                        page.write_string(line, column, clean(str(value)), cell)
    return out.getvalue()


def clean(text: str) -> str:
    """Text that XML and a cell can hold."""
    return _CONTROL.sub(" ", text)[:_MOST]


def _widths(header: tuple[str, ...], rows: list[Row]) -> list[int]:
    columns = max(len(header), *(len(row) for row in rows), 1)
    found = []
    for column in range(columns):
        texts = [str(row[column]) for row in ([header] if header else []) + rows[:200] if column < len(row)]
        found.append(min(_WIDEST, 2 + max((len(text) for text in texts), default=8)))
    return found


def _yes(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "too close to call"}[value]
