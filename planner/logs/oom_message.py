"""A CUDA out-of-memory message, pasted or at the end of a log, with its traceback.

Sources, c10/cuda/CUDACachingAllocator.cpp: PyTorch 1.0–1.3 "(GPU 0; 11.17 GiB total capacity; 8.22 GiB already allocated; 2.62 GiB free; 5.05 MiB
cached)"; 1.4–2.0 "… reserved in total by PyTorch)", 1.6–2.0 also "… allowed;"; 2.1–2.13 "GPU 0 has a total capacty (2.2: capacity) of … of which … is
free. Process 2722 has … memory in use. Including non-PyTorch memory, this process has … memory in use. … allowed; Of the allocated memory … is
allocated by PyTorch, with … allocated in private pools (e.g., CUDA Graphs), and … is reserved by PyTorch but unallocated." Sizes by `format_size`:
"512 bytes", "1.00 KiB", "2.00 MiB", "3.00 GiB".
"""

from __future__ import annotations

import re
from typing import Final

from planner.logs.names import MEMORY_UNITS
from planner.logs.record import OutOfMemory
from planner.logs.source import HEAD, Source, number

_SIZE: Final = r"([\d.]+)\s*(bytes|[KMGT]iB)"
_START: Final = re.compile(rf"out of memory\.\s*Tried to allocate\s+{_SIZE}", re.I)
_FIELDS: Final = {
    "total": (rf"{_SIZE}\s+total\s+capacity", rf"total\s+capaci?ty\s+of\s+{_SIZE}"),
    "free": (rf"{_SIZE}\s+free", rf"of\s+which\s+{_SIZE}\s+is\s+free"),
    "allocated": (rf"{_SIZE}\s+already\s+allocated", rf"allocated\s+memory\s+{_SIZE}\s+is\s+allocated\s+by\s+PyTorch"),
    "reserved": (rf"{_SIZE}\s+reserved\s+in\s+total", rf"{_SIZE}\s+cached\)"),
    "unallocated": (rf"{_SIZE}\s+is\s+reserved\s+by\s+PyTorch\s+but\s+unallocated",),
    "private": (rf"with\s+{_SIZE}\s+allocated\s+in\s+private\s+pools",),
    "process": (rf"this\s+process\s+has\s+{_SIZE}\s+memory\s+in\s+use",),
    "limit": (rf"{_SIZE}\s+allowed",),
}  # fmt: skip
_OTHERS: Final = re.compile(rf"Process\s+\d+\s+has\s+{_SIZE}\s+memory\s+in\s+use", re.I)
_DEVICE: Final = re.compile(r"\bGPU\s+(\d+)", re.I)
_FRAME: Final = re.compile(r'File "([^"\n]{1,300})", line \d+, in ([\w<>.]{1,80})')
_SPAN: Final = 2000
"""Characters of a message, at most."""


def find(text: str) -> OutOfMemory | None:
    """The first message in a text; the ones that follow are of ranks that fell with it."""
    start = _START.search(text)
    if start is None:
        return None
    end = _START.search(text, start.end())
    message = " ".join(text[start.start() : min(start.start() + _SPAN, end.start() if end else len(text))].split())
    found: dict[str, float] = {}
    for name, patterns in _FIELDS.items():
        match = next((match for pattern in patterns if (match := re.search(pattern, message, re.I))), None)
        if match is not None and (value := _bytes(match[1], match[2])) is not None:
            found[name] = value
    allocated, reserved = found.get("allocated"), found.pop("reserved", None)
    if reserved is not None and allocated is not None:
        # before 1.4 "cached" was the part not in use
        found["unallocated"] = reserved if "cached)" in message else max(0.0, reserved - allocated)
    others = sum(value for size, unit in _OTHERS.findall(message) if (value := _bytes(size, unit)) is not None)
    if "process" not in found and others and allocated is not None and others >= allocated:
        found["process"], others = others, 0.0  # in a container the driver names this process by its number
    device = _DEVICE.search(message)
    above = _FRAME.findall(text[max(0, start.start() - 2**15) : start.start()])
    frames = tuple(f"{name} ({path.replace(chr(92), '/').rpartition('/')[2]})" for path, name in above)
    return OutOfMemory(
        where=f"line {text.count(chr(10), 0, start.start()) + 1}",
        tried=_bytes(start[1], start[2]),
        device=int(device[1]) if device and len(device[1]) < 5 else None,
        others=others or None,
        wording=message[:600],
        frames=frames[-40:],
        **found,
    )


def in_source(source: Source) -> OutOfMemory | None:
    """A message at the end of a log, or at its beginning where it was pasted."""
    if not source.is_text:
        return None
    return find(source.tail()) or (find(source.head) if source.size > HEAD else None)


def _bytes(size: str, unit: str) -> float | None:
    value = number(size)
    return None if value is None else value * MEMORY_UNITS[unit.lower()]
