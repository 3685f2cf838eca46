"""Usable memory of a part whose reported total is not known, from parts of the same kind whose total is known.

A device never offers all of its sticker memory: drivers reserve some, and GDDR boards with error correction keep
the check bits in the same memory ("inline" ECC: about 1/16). HBM has room for them beside the data. So the ratio of
reported total to sticker is taken from measured rows of the same vendor and the same kind of memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression, median
from typing import Final

_FIELD = "usable_memory_bytes"
APPLE_SHARE: Final = 0.75
"""Share of unified memory that Metal lets a process wire by default (recommendedMaxWorkingSetSize)."""


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """Memory facts of one part [bytes]: `sticker`, what the framework `reported`, what the `driver` tool prints."""

    vendor: str
    kind: str
    ecc: str
    sticker: float
    reported: float | None
    driver: float | None


def usable_memory(rows: Sequence[MemoryRow], index: int) -> tuple[int, str]:
    """Usable memory [bytes] of row `index` and, when it is not device-reported, the rule that gave it.

    Equation: where the driver's tool prints a total d, usable = d − (a + b·d), a line fitted by least squares to the
    measured parts of the vendor; else usable = sticker · median(reported / sticker) over the measured parts of the same
    vendor, memory family and ECC, or of the same vendor, or of all vendors.
    """
    row = rows[index]
    if row.reported is not None:
        return round(row.reported), ""
    if row.vendor == "Apple":
        return round(APPLE_SHARE * row.sticker), f"{_FIELD}: {APPLE_SHARE:.0%} of unified memory (Metal's default)"
    others = [other for other in rows if other.reported is not None]
    same_vendor = [other for other in others if other.vendor == row.vendor]
    pairs = [(o.driver, o.driver - o.reported) for o in same_vendor if o.driver is not None and o.reported is not None]
    if row.driver is not None and len(pairs) > 2:
        fit = linear_regression(*zip(*pairs, strict=True))
        usable = row.driver - (fit.intercept + fit.slope * row.driver)
        return round(usable), f"{_FIELD}: driver's total less a reserve fitted to {len(pairs)} {row.vendor} parts"
    family = _family(row)
    groups = (
        ([o for o in same_vendor if _family(o) == family], f"{row.vendor} parts with {family}"),
        (same_vendor, f"{row.vendor} parts"),
        (others, "parts of other vendors"),
    )
    for group, words in groups:
        if group:
            ratio = median(o.reported / o.sticker for o in group if o.reported is not None)
            return round(row.sticker * ratio), f"{_FIELD}: {ratio:.4f} of the sticker, median of {len(group)} {words}"
    raise ValueError("no measured row to derive usable memory from")


def _family(row: MemoryRow) -> str:
    family = row.kind.rstrip("0123456789Xxe")
    return f"{family} and inline ECC" if row.ecc == "inline" else family
