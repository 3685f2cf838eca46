"""CSV: every term of the ledger, one a row, values in full precision; or every table of the report, one below the other."""

from __future__ import annotations

import csv
import io

from planner.report import comparing
from planner.report.blocks import Document
from planner.report.cells import sheets_of
from planner.report.content import build
from planner.report.registry import Comparison, Subject, register

PLANS = ("rank", "plan", "time_s", "cost_usd", "energy_kwh", "peak_reserved_bytes", "chance_that_it_fits", "fits", "efficient", "reason")
COLUMNS = ("name", "value", "unit", "formula", "inputs", "source")
_COMMANDS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # the wide forms too: some spreadsheets read them as the narrow ones


def guard(cell: str) -> str:
    """Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    return "'" + cell if cell.startswith(_COMMANDS) else cell


def _render_many(comparison: Comparison) -> bytes:
    """The ranked plans, one a row, in SI units."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(PLANS)
    for row in comparison.ranked():
        one = row.estimate
        values = (row.time, row.cost, row.energy, row.reserved, row.chance)
        numbers = ("" if value is None else repr(float(value)) for value in values)
        writer.writerow([row.rank or "", guard(row.name), *numbers, one.fits, row.efficient, guard(one.fits_reason)])
    return out.getvalue().encode("utf-8")


@register("csv", label="CSV, every term", ending="csv", mime="text/csv", position=50, many=_render_many)
def render(subject: Subject) -> bytes:
    """The ledger as CSV, UTF-8."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for term in subject.estimate.terms:
        inputs = "; ".join(f"{symbol} = {value}" for symbol, value in term.inputs.items())
        writer.writerow(
            [guard(term.name), repr(term.value), term.unit, guard(term.formula), guard(inputs), guard(term.source)]
        )
    return out.getvalue().encode("utf-8")


@register(
    "tables", label="CSV, every table", ending="csv", mime="text/csv", position=55, many=lambda comparison: _tables(comparing.build(comparison))
)  # fmt: skip
def render_tables(subject: Subject) -> bytes:
    """Every table of the report as CSV, UTF-8: its title in a line, its rows, an empty line."""
    return _tables(build(subject))


def _tables(document: Document) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for sheet in sheets_of(document):
        writer.writerow([f"# {sheet.title}"])
        for row in (sheet.header, *sheet.rows) if sheet.header else sheet.rows:
            writer.writerow([guard(cell) for cell in row])
        writer.writerow([])
    return out.getvalue().encode("utf-8")
