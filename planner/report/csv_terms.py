"""CSV: every term of the ledger, one a row, values in full precision."""

from __future__ import annotations

import csv
import io

from planner.report.registry import Subject, register

COLUMNS = ("name", "value", "unit", "formula", "inputs", "source")
_COMMANDS = ("=", "+", "-", "@", "\t", "\r", "\n")


def guard(cell: str) -> str:
    """Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    return "'" + cell if cell.startswith(_COMMANDS) else cell


@register("csv", label="CSV, every term", ending="csv", mime="text/csv", position=50)
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
