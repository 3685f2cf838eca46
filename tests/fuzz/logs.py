"""Logs of every reader, damaged: each is read or refused in one line; what is read is finite, and can be set beside a plan."""

from __future__ import annotations

import json
import math
import random
import re
import string
from collections.abc import Callable
from typing import Any

from planner.errors import PlanError
from planner.logs import READERS, Source, audit, read
from planner.logs.record import QUANTITIES, Record
from planner.logs.seen import seen
from planner.run import Run
from tests.fuzz.values import JUNK, mutated
from tests.logs import samples

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_AUDITED = 40
"""One log of so many is set beside a plan, which takes a hundred times as long as reading it."""
_RUN = Run.model_validate({"model": "gpt2", "hardware": {"gpu": "L40S"}, "batch": {"micro": 2, "seq_len": 256}})


def damaged(r: random.Random, content: bytes) -> bytes:
    """A log as it comes out of a crash, an editor, or a hostile hand."""
    if content[:1] in b"{[" and r.random() < 0.5:
        try:
            text = json.dumps(mutated(r, json.loads(content), r.randrange(1, 8)))
            return text.encode("utf-8", "surrogatepass")
        except (TypeError, ValueError):
            return content[: r.randrange(len(content))]
    for _ in range(r.randrange(1, 6)):
        act, at = r.randrange(7), r.randrange(len(content) + 1)
        if act == 0:
            content = content[:at]
        elif act == 1:
            content = content[:at] + bytes(r.randrange(256) for _ in range(r.randrange(1, 9))) + content[at:]
        elif act == 2 and content:
            changed = bytearray(content)
            for _ in range(r.randrange(1, 30)):
                changed[r.randrange(len(changed))] = r.randrange(256) if r.random() < 0.3 else ord(r.choice(string.printable))
            content = bytes(changed)
        elif act == 3:
            junk = str(r.choice(JUNK)).encode("utf-8", "replace")
            content = _NUMBER.sub(lambda match, junk=junk: junk if r.random() < 0.05 else match[0], content)
        elif act == 4:
            wild = r.choice((b"0", b"-1", b"1e308", b"1e-320", b"9" * 30, b"nan", b"inf", b"1.2.3", b"1,5"))
            content = _NUMBER.sub(lambda match, wild=wild: wild if r.random() < 0.2 else match[0], content)
        elif act == 5:
            lines = content.split(b"\n")
            r.shuffle(lines)
            content = b"\n".join(lines)
        else:
            content = content + r.choice(list(samples.BY_READER.values()))[: r.randrange(3000)]
    return content


def wrong(found: Record) -> str | None:
    """What is wrong with a record."""
    for point in found.points:
        if not point.where or any(name not in QUANTITIES or not math.isfinite(value) for name, value in point.values.items()):
            return f"a point that says {point}"
        if (point.time_s is not None and not math.isfinite(point.time_s)) or (point.step is not None and point.step < 0):
            return f"a point at {point.step}, {point.time_s}"
    if any(isinstance(value, float) and not math.isfinite(value) for value in found.facts.values()):
        return f"facts {found.facts}"
    steps = seen([found], 512.0, 2.0, 1).steps
    if steps is not None and not (0 < steps.low <= steps.median <= steps.high and math.isfinite(steps.high) and math.isfinite(steps.paused)):
        return f"steps of {steps.low}, {steps.median}, {steps.high}"
    return None


def target(name: str) -> Callable[[random.Random], tuple[Any, str | None]]:
    """The target of one reader's logs."""

    def run(r: random.Random) -> tuple[Any, str | None]:
        content = damaged(r, samples.BY_READER[name])
        try:
            found = read(Source("log", content))
        except PlanError as error:
            text = str(error)
            return content, None if error.field == "log" and error.fix and "\n" not in text and len(text) < 2000 else f"not one clear line: {text[:200]!r}"
        said = wrong(found)
        if said is None and r.randrange(_AUDITED) == 0:
            try:
                json.dumps(audit(_RUN, [found]).model_dump(mode="json"), allow_nan=False)
            except PlanError as error:
                said = None if error.fix and "\n" not in str(error) else f"not one clear line: {str(error)[:200]!r}"
        return content, said

    run.__doc__ = f"Damaged logs of the reader {name}."
    return run


TARGETS = {f"log-{name}": target(name) for name in READERS}
