"""Reading the package's own data files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

DATA: Final = Path(__file__).with_name("data")


def read_table(name: str) -> list[dict[str, str]]:
    """Rows of a CSV file in the data folder, one mapping from column to text each."""
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
