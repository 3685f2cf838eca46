"""What Linux tells of a processor while it is measured: clock, temperature, and the memory of this process. Silent elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path("/")


def figures(root: Path = ROOT) -> dict[str, float | None]:
    """Mean clock [MHz], highest temperature [°C], memory of this process [bytes]; None where the system does not say."""
    return {"sm_clock_mhz": _clock(root), "power_w": None, "temperature_c": _temperature(root), "memory_bytes": _memory(root)}


def _clock(root: Path) -> float | None:
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = [float(line.split(":", 1)[1]) for line in lines if line.startswith("cpu MHz")]
    return sum(found) / len(found) if found else None


def _temperature(root: Path) -> float | None:
    found = []
    for path in (root / "sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            found.append(int(path.read_text()) / 1e3)
        except (OSError, ValueError):
            continue  # a sensor that is switched off refuses to be read
    return max(found, default=None)


def _memory(root: Path) -> float | None:
    try:
        pages = int((root / "proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
