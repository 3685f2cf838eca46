"""How the command line writes: aligned tables, wrapped sentences, one JSON document on the last line."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

_WIDEST = 110
_NARROWEST = 20
_NO_BREAK = "\u00a0"


def printable(text: object) -> str:
    """Text without control characters: names from outside must not steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in str(text))


def width() -> int:
    """Columns of the terminal, at most 110."""
    return max(40, min(shutil.get_terminal_size((100, 24)).columns, _WIDEST))


def bold(text: str) -> str:
    """Bold on a terminal; plain into a file, and where NO_COLOR is set."""
    return f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


def table(
    rows: Sequence[Sequence[str]], right: Sequence[int] = (), indent: int = 2, gap: int = 3, header: bool = False
) -> str:
    """Rows as aligned columns; the last column wraps to the terminal's width.

    Arguments
    ---------
    rows: cells.
    right: columns that are aligned to the right.
    indent, gap: spaces before a row and between columns.
    header: whether the first row is a heading, set off by a rule.
    """
    if not rows:
        return ""
    cells = [[printable(cell) for cell in row] for row in rows]
    count = max(len(row) for row in cells)
    cells = [row + [""] * (count - len(row)) for row in cells]
    widths = [max(len(row[i]) for row in cells) for i in range(count)]
    start = indent + sum(widths[:-1]) + gap * (count - 1)
    below = count - 1 not in right and width() - start < min(_NARROWEST, widths[-1])  # the last column goes to a line of its own, under the second
    under = indent + widths[0] + gap if count > 1 else indent
    last = max(_NARROWEST, width() - (under if below else start))
    lines = []
    for number, row in enumerate(cells):
        parts = [
            cell.rjust(w) if i in right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row[:-1], widths[:-1], strict=True))
        ]
        more = textwrap.wrap(_glued(row[-1]), last) if count - 1 not in right else [row[-1].rjust(widths[-1])]
        first = more.pop(0) if more and not below else ""
        lines.append((" " * indent + (" " * gap).join([*parts, first])).rstrip())
        lines += [" " * (under if below else start) + line for line in more]
        if header and number == 0:
            lines.append(" " * indent + (" " * gap).join("─" * w for w in (*widths[:-1], widths[-1] if count - 1 in right else min(widths[-1], last))))
    return "\n".join(lines).replace(_NO_BREAK, " ")


def wrapped(text: str, indent: int = 2, bullet: str = "") -> str:
    """A sentence wrapped to the terminal's width."""
    first, rest = " " * indent + bullet, " " * (indent + len(bullet))
    filled = textwrap.fill(_glued(printable(text)), width(), initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    return filled.replace(_NO_BREAK, " ")


def _glued(text: str) -> str:
    """A number stays on the line of its unit."""
    return re.sub(r"(?<=\d) (?=%|[KMGT]?i?B\b|GPU-hours)", _NO_BREAK, text)


def emit_json(document: Any) -> None:
    """One JSON document on one line. Raises ValueError rather than writing NaN or infinity."""
    print(json.dumps(document, allow_nan=False))
