"""Lines that trainers print: torchtitan, Megatron-LM and its relatives, NeMo, DeepSpeed, torchtune, LLaMA-Factory.

What is common to them: one line a step (or every few), fields with names, a clock at its start where the logger writes one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from planner.logs.reader import kept
from planner.logs.record import Point, Record
from planner.logs.source import Source

COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
"""ANSI colours, which torchtitan writes on a terminal."""
SHORTEST: Final = 12
LONGEST: Final = 4000
"""Characters of a line that a trainer prints; more of it is not looked at."""
_CLOCK: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,6}))?")


def clock(line: str) -> float | None:
    """Seconds of a date and time near the start of a line; differences are what is used, so the zone does not matter."""
    match = _CLOCK.search(line[:120])
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        return datetime(year, month, day, hour, minute, second, int((match[7] or "0").ljust(6, "0")), UTC).timestamp()
    except ValueError:
        return None


def sniff(pattern: re.Pattern[str], *words: str) -> Callable[[Source], bool]:
    """Whether the first megabyte of a log, or its end, holds a line that a trainer prints, and one of some words (where any are given)."""

    def said(text: str) -> bool:
        return (not words or any(word in text for word in words)) and pattern.search(COLOURS.sub("", text)) is not None

    def recognises(source: Source) -> bool:
        if not source.is_text:
            return False
        start = source.head if source.size <= 2**16 else source.read(0, 2**20).decode(source.encoding, "replace")
        return said(start) or (source.size > 2**20 and said(source.tail()))

    return recognises


def collect(source: Source, reader: str, line_of: Callable[[str, str], Iterator[Point]]) -> Record:
    """The record of a log of lines. line_of: points of a line, from its place and its text without colours."""
    lines = ((number, line[:LONGEST]) for number, line in source.lines() if len(line) > SHORTEST)
    points, notes = kept(point for number, line in lines for point in line_of(f"line {number}", COLOURS.sub("", line)))
    return Record(source.name, reader, points, notes=notes)
