"""A file from outside, read within limits: streamed, never executed, never unpickled."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

from planner.errors import PlanError, shorten

MAX_BYTES: Final = 2 * 2**30
"""Of a file that is streamed."""
MAX_DOCUMENT: Final = 64 * 2**20
"""Of a JSON document, which is read whole [bytes]."""
MAX_LINE: Final = 2**20
"""Characters of a line that are looked at; what follows on it is passed over."""
MAX_POINTS: Final = 200_000
"""Entries of one log that are kept."""
MOST: Final = 1e30
"""Larger numbers are none that a log means, and smaller ones than its inverse are 0: products and ratios stay finite."""
HEAD: Final = 2**16
"""Bytes by which a format is recognised."""
_TEXT_MARKS: Final = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "utf-8"))


class Source:
    """One log: a file, or text that was pasted or uploaded. Raises `PlanError` with the field `log` for what cannot be read."""

    def __init__(self, name: str, content: bytes | None = None, path: Path | None = None) -> None:
        self.name, self._content, self._path = shorten("".join(c if c.isprintable() else " " for c in name), 120), content, path
        try:
            known, there = path is None or path.is_file(), path is not None and path.exists()
            self.size = len(content) if content is not None else path.stat().st_size if path is not None and known else 0
        except (OSError, ValueError) as error:
            raise self.wrong(f"cannot be read ({_reason(error)})", "Name a log that this machine can read.") from None
        if not known:
            raise self.wrong("is no file" if there else "does not exist", "Name a log that this machine can read.")
        if self.size == 0:
            raise self.wrong("is empty", "The run may not have logged yet.")
        if self.size > MAX_BYTES:
            raise self.wrong(f"has {self.size / 2**30:.1f} GiB, more than {MAX_BYTES // 2**30} GiB", "Cut the part out of it that is of interest.")

    def wrong(self, problem: str, fix: str) -> PlanError:
        """What is wrong with this log."""
        return PlanError("log", self.name, problem, fix)

    def open(self) -> BinaryIO:
        """Its bytes from the start."""
        if self._content is not None or self._path is None:
            return io.BytesIO(self._content or b"")
        try:
            return self._path.open("rb")
        except OSError as error:
            raise self.wrong(f"cannot be read ({_reason(error)})", "Name a log that this machine can read.") from None

    def read(self, start: int, count: int) -> bytes:
        """Some of its bytes."""
        with self.open() as file:
            try:
                file.seek(start)
                return file.read(count)
            except OSError as error:
                raise self.wrong(f"cannot be read ({_reason(error)})", "Name a log that this machine can read.") from None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all of it: the same log is known again."""
        found = hashlib.sha256()
        with self.open() as file:
            while part := file.read(2**20):
                found.update(part)
        return found.hexdigest()

    @cached_property
    def encoding(self) -> str:
        """UTF-8 unless a mark at its start says UTF-16, as PowerShell writes."""
        start = self.read(0, 4)
        return next((name for mark, name in _TEXT_MARKS if start.startswith(mark)), "utf-8")

    @cached_property
    def head(self) -> str:
        """Its beginning as text."""
        return self.read(0, HEAD).decode(self.encoding, "replace").lstrip("\ufeff")

    def tail(self, count: int = 2**18) -> str:
        """Its end as text."""
        start = max(0, self.size - count)
        return self.read(start - start % 2, count + 1).decode(self.encoding, "replace")

    @property
    def is_text(self) -> bool:
        """Whether it looks like text: no NUL, hardly a byte that no encoding explains."""
        return "\x00" not in self.head and self.head.count("\ufffd") <= len(self.head) // 20

    def lines(self) -> Iterator[tuple[int, str]]:
        """Its lines with their numbers from 1, one after the other; a carriage return ends one too, as progress bars write."""
        with self.open() as binary:
            reader = io.TextIOWrapper(binary, encoding=self.encoding, errors="replace", newline=None)
            number = 0
            while line := reader.readline(MAX_LINE):
                number += 1
                yield number, line.lstrip("\ufeff") if number == 1 else line
                while line and not line.endswith("\n"):
                    line = reader.readline(MAX_LINE)

    @cached_property
    def document(self) -> Any:
        """Its JSON; None where it is none. Raises `PlanError` for JSON that is too large or cut off."""
        start = self.head.lstrip()[:1]
        if start not in ("{", "["):
            return None
        if self.size > MAX_DOCUMENT:
            if "\n" in self.head.strip() and json_line(self.head.lstrip().splitlines()[0]) is not None:
                return None  # one document a line: it is streamed
            raise self.wrong(f"has {self.size / 2**20:.0f} MiB of JSON, more than {MAX_DOCUMENT // 2**20} MiB", "Export fewer columns or steps.")
        text = self.read(0, self.size).decode(self.encoding, "replace").lstrip("\ufeff")
        try:
            return json.loads(text)
        except RecursionError:
            raise self.wrong("is JSON nested too deeply", "Export it again.") from None
        except ValueError as error:
            first = text.lstrip().splitlines()[0]
            if json_line(first) is not None or (not first.startswith(("{", "[{", "[\n")) and first.strip() not in ("{", "[")):
                return None  # one document a line, or text that begins with a bracket
            raise self.wrong(f"is JSON that is damaged or cut off ({shorten(error, 80)})", "Copy or export it again, whole.") from None


def number(value: object) -> float | None:
    """A finite number from a number or its text ("1,234", "45 %", "1.2 MiB" without its unit); None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        value = value.strip().replace(",", "")
        if not value or len(value) > 40:
            return None
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    if not math.isfinite(found) or abs(found) > MOST:
        return None
    return found if abs(found) > 1 / MOST else 0.0


def whole(value: object) -> int | None:
    """A step: a whole number from 0 on."""
    found = number(value)
    return int(found) if found is not None and 0 <= found < 1e15 and found == int(found) else None


def cells(line: str) -> list[str]:
    """Cells of one line of CSV; none where it is no CSV."""
    try:
        return [cell.strip() for cell in next(csv.reader([line.rstrip("\r\n")]), [])]
    except csv.Error:
        return []


def json_line(line: str) -> dict[str, Any] | None:
    """A JSON object on a line; None where it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _reason(error: Exception) -> str:
    return shorten(getattr(error, "strerror", None) or error, 80)
