"""What the system tells of a processor, and silence where it tells nothing."""

from __future__ import annotations

import os
from pathlib import Path

from planner.calibrate.processor_figures import figures


def test_clock_temperature_and_memory_are_read_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/cpuinfo").write_text("cpu MHz\t\t: 2000.0\nmodel\t: 1\ncpu MHz\t\t: 3000.0\n")
    (tmp_path / "proc/self/statm").write_text("900 500 100 1 0 300 0\n")
    for number, text in enumerate(("41000", "55500", "broken")):
        zone = tmp_path / f"sys/class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(text)
    page = os.sysconf("SC_PAGE_SIZE")
    assert figures(tmp_path) == {"sm_clock_mhz": 2500.0, "power_w": None, "temperature_c": 55.5, "memory_bytes": 500.0 * page}


def test_a_system_that_tells_nothing_gives_nothing(tmp_path: Path) -> None:
    assert set(figures(tmp_path).values()) == {None}
