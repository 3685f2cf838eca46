"""Units: the only place that converts, parses or formats a quantity.

Inside Plumbline every quantity is in SI units (bytes, FLOP, FLOP/s, seconds, USD). What a person types
is parsed here, and what a person reads is formatted here. A parser takes the name of the field it reads
for and raises `PlanError` with it; it never accepts nan, infinity or a negative quantity.
A formatter takes ``None`` for an unknown quantity and writes "unknown".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Final

from planner.errors import PlanError

KIB: Final = 2**10
MIB: Final = 2**20
GIB: Final = 2**30
TIB: Final = 2**40
KB: Final = 10**3
MB: Final = 10**6
GB: Final = 10**9
TB: Final = 10**12

THOUSAND: Final = 1e3
MEGA: Final = 1e6
GIGA: Final = 1e9
TERA: Final = 1e12
PETA: Final = 1e15

MICROSECOND: Final = 1e-6
MILLISECOND: Final = 1e-3
MINUTE: Final = 60.0
HOUR: Final = 3600.0
DAY: Final = 86_400.0
WEEK: Final = 7 * DAY
YEAR: Final = 365.25 * DAY

BITS_PER_BYTE: Final = 8
GBIT_PER_SECOND: Final = GIGA / BITS_PER_BYTE
"""One Gbit/s in B/s: network adapters are sold in bits."""
JOULES_PER_KWH: Final = 3.6e6

MAX_COUNT: Final = 10**24
"""Largest count that a parser accepts; anything larger is a typing error."""
UNKNOWN: Final = "unknown"

_TEXT_LIMIT = 200
_NUMBER = r"[0-9][0-9,_]*(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?|\.[0-9]+(?:e[+-]?[0-9]{1,3})?"
_QUANTITY = re.compile(rf"\s*\$?\s*({_NUMBER})\s*([a-zµ%/$-]*)\s*", re.IGNORECASE)
_EPOCHS = re.compile(r"\s*(.+?)\s*(?:epochs?|passes)\s*(?:of|x|×|over)\s*(.+?)\s*", re.IGNORECASE)
_NOUNS = re.compile(r"\s*(?:tokens?|samples?|sequences?|examples?|steps?|parameters?|params?)\s*$", re.IGNORECASE)
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?|\.[0-9]+")

_COUNT_SUFFIX = {
    "": 1, "k": 10**3, "thousand": 10**3, "m": 10**6, "mio": 10**6, "million": 10**6,
    "b": 10**9, "g": 10**9, "bn": 10**9, "billion": 10**9, "t": 10**12, "tn": 10**12, "trillion": 10**12,
}  # fmt: skip
_BYTE_SUFFIX = {
    "b": 1, "byte": 1, "bytes": 1, "kb": KB, "mb": MB, "gb": GB, "tb": TB,
    "kib": KIB, "mib": MIB, "gib": GIB, "tib": TIB,
}  # fmt: skip
_TIME_SUFFIX = {
    "us": MICROSECOND, "µs": MICROSECOND, "ms": MILLISECOND,
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "m": MINUTE, "min": MINUTE, "mins": MINUTE, "minute": MINUTE, "minutes": MINUTE,
    "h": HOUR, "hr": HOUR, "hrs": HOUR, "hour": HOUR, "hours": HOUR,
    "d": DAY, "day": DAY, "days": DAY, "w": WEEK, "week": WEEK, "weeks": WEEK,
    "y": YEAR, "year": YEAR, "years": YEAR,
}  # fmt: skip


# ---- parse -----------------------------------------------------------------------------------------


def parse_number(
    value: object,
    field: str,
    *,
    minimum: float = 0.0,
    maximum: float = math.inf,
    above_zero: bool = False,
) -> float:
    """Finite number in [`minimum`, `maximum`], from a number or its text ("3,350", "2.5", "1e-3").

    Arguments
    ---------
    value: number or text.
    field: dotted name of the field, for the message.
    minimum, maximum: closed bounds.
    above_zero: refuse zero too.

    Errors
    ------
    PlanError: not a number, not finite, or out of the bounds.
    """
    if isinstance(value, str):
        number = float(_decimal(value, field, "Write a number such as 2.5."))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            raise PlanError(field, _brief(value), "is too large", "Write a smaller number.") from None
    else:
        raise PlanError(field, _brief(value), "is not a number", "Write a number such as 2.5.")
    if not math.isfinite(number):
        raise PlanError(field, _brief(value), "is not a finite number", "Write a finite number.")
    if number < minimum or number > maximum or (above_zero and number <= 0):
        low = "above 0" if above_zero and minimum <= 0 else f"at least {minimum:g}"
        bound = low if math.isinf(maximum) else f"{low} and at most {maximum:g}"
        raise PlanError(field, _brief(value), "is out of range", f"Write a number {bound}.")
    return number


def parse_count(value: object, field: str = "count", *, minimum: int = 1) -> int:
    """Whole number of things from what people write.

    "1.5B", "250M tokens", "2e9", "1,000,000", "12 million", "3 epochs of 80M" and plain numbers all work;
    K, M, B (or G) and T are the decimal powers 10^3, 10^6, 10^9 and 10^12.

    Arguments
    ---------
    value: number or text.
    field: dotted name of the field, for the message.
    minimum: smallest count accepted.

    Errors
    ------
    PlanError: not a whole number, below `minimum`, or above `MAX_COUNT`.
    """
    fix = 'Write a whole number such as 250000, "250M" or "1.5B".'
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise PlanError(field, _brief(value), "is not a count", fix)
    if isinstance(value, str):
        count = _count_text(value, field, fix)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise PlanError(field, value, "is not a finite number", fix)
        count = Decimal(repr(value))
    else:
        count = Decimal(max(-1, min(value, MAX_COUNT + 1)))  # clamped: a million digits would take long to convert
    if count > MAX_COUNT:
        raise PlanError(field, _brief(value), f"is above {MAX_COUNT:.0e}", fix)
    if count != count.to_integral_value():
        raise PlanError(field, _brief(value), "is not a whole number", fix)
    if count < minimum:
        raise PlanError(field, _brief(value), f"is below {minimum}", f"Write a whole number of at least {minimum}.")
    return int(count)


def parse_bytes(value: object, field: str = "bytes") -> int:
    """Bytes from "80 GB", "24GiB" or a plain number of bytes; decimal and binary prefixes are kept apart.

    Errors
    ------
    PlanError: not a finite amount of zero or more, or an unknown unit.
    """
    return round(_scaled(value, field, _BYTE_SUFFIX, 'Write an amount such as "80 GB" or "24 GiB".'))


def parse_duration(value: object, field: str = "duration") -> float:
    """Seconds from "24h", "3 days", "1 h 30 min", "90s" or a plain number of seconds.

    Errors
    ------
    PlanError: not a finite duration of zero or more, or an unknown unit.
    """
    fix = 'Write a duration such as "24h", "3 days" or "90 min".'
    if not isinstance(value, str):
        return _scaled(value, field, _TIME_SUFFIX, fix)
    text = _short_text(value, field, fix)
    parts = re.findall(rf"(?:{_NUMBER})\s*[a-zµ]*", text, re.IGNORECASE)
    if not parts or re.sub(r"\s+|,|and", "", "".join(parts)) != re.sub(r"\s+|,|and", "", text):
        raise PlanError(field, value, "is not a duration", fix)
    if len(parts) > 1 and any(part.strip()[-1].isdigit() for part in parts):
        raise PlanError(field, value, "has a part without a unit", fix)
    return math.fsum(_scaled(part, field, _TIME_SUFFIX, fix) for part in parts)


def parse_usd(value: object, field: str = "price") -> float:
    """US dollars from "$2.50", "2.5 USD" or a number.

    Errors
    ------
    PlanError: not a finite amount of zero or more.
    """
    return _scaled(value, field, {"usd": 1.0, "$": 1.0, "dollars": 1.0}, "Write an amount in US dollars such as 2.50.")


def _scaled(value: object, field: str, suffixes: dict[str, float] | dict[str, int], fix: str) -> float:
    if not isinstance(value, str):
        return parse_number(value, field)
    text = _short_text(value, field, fix)
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise PlanError(field, value, "is not a non-negative quantity", fix)
    unit = match[2].lower()
    if unit and unit not in suffixes:
        raise PlanError(field, value, f"has the unknown unit {match[2]!r}", fix)
    return parse_number(float(_decimal(match[1], field, fix)) * (suffixes[unit] if unit else 1), field)


def _count_text(value: str, field: str, fix: str) -> Decimal:
    text = _short_text(value, field, fix)
    epochs = _EPOCHS.fullmatch(text)
    if epochs is not None:
        return _count_text(epochs[1], field, fix) * _count_text(epochs[2], field, fix)
    match = _QUANTITY.fullmatch(_NOUNS.sub("", text))
    if match is None or "$" in text:
        raise PlanError(field, value, "is not a count", fix)
    suffix = match[2].lower()
    if suffix not in _COUNT_SUFFIX:
        raise PlanError(field, value, f"has the unknown suffix {match[2]!r}", fix)
    return _decimal(match[1], field, fix) * _COUNT_SUFFIX[suffix]


def _decimal(text: str, field: str, fix: str) -> Decimal:
    cleaned = _short_text(text, field, fix).strip().lower()
    mantissa = cleaned.split("e")[0].lstrip("+-")
    if not _GROUPED.fullmatch(mantissa):
        # "1,5" would be read as 15 by a parser that only drops commas.
        raise PlanError(field, text, "is not a number", fix)
    try:
        number = Decimal(cleaned.replace(",", "").replace("_", ""))
    except InvalidOperation:
        raise PlanError(field, text, "is not a number", fix) from None
    if number and number.adjusted() > 300:
        raise PlanError(field, text, "is too large", fix)
    return number


def _short_text(value: str, field: str, fix: str) -> str:
    if len(value) > _TEXT_LIMIT:
        raise PlanError(field, value, f"is longer than {_TEXT_LIMIT} characters", fix)
    return value


def _brief(value: object) -> object:
    """`value` for a message, without printing an enormous integer (Python refuses beyond 4300 digits)."""
    return "an integer of more than 40 digits" if isinstance(value, int) and abs(value) > 10**40 else value


# ---- format ----------------------------------------------------------------------------------------


def significant(value: float, digits: int = 3) -> str:
    """Decimal text of `value` with `digits` significant digits, thousands separated, no exponent.

    Trailing zeros after the point are dropped ("2.50" becomes "2.5").
    """
    if not math.isfinite(value):
        raise ValueError(f"cannot format {value}")
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    places = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    text = f"{rounded:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_bytes(value: float | None, digits: int = 3) -> str:
    """Memory in binary units: GiB from 1 GiB on (also in the thousands), MiB, KiB or B below."""
    if value is None:
        return UNKNOWN
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(value) >= size:
            return f"{significant(value / size, digits)} {unit}"
    return f"{significant(value, digits)} B"


def format_bandwidth(value: float | None, digits: int = 3) -> str:
    """Bandwidth [B/s] in GB/s, or MB/s below one."""
    if value is None:
        return UNKNOWN
    size, unit = (GB, "GB/s") if abs(value) >= GB else (MB, "MB/s")
    return f"{significant(value / size, digits)} {unit}"


def format_seconds(value: float | None, digits: int = 3) -> str:
    """Duration [s] as people say it: "245 ms", "12.3 s", "3 min 20 s", "3 h 10 min", "about 3 days".

    From two days on, hours are noise: two significant digits and "about".
    """
    if value is None:
        return UNKNOWN
    if value < 0:
        return "-" + format_seconds(-value, digits)
    if value == 0:
        return "0 s"
    for unit, size, limit in (("µs", MICROSECOND, 1e-3), ("ms", MILLISECOND, 1.0), ("s", 1.0, MINUTE)):
        if float(f"{value:.{digits - 1}e}") < limit:
            return f"{significant(value / size, digits)} {unit}"
    if round(value) < HOUR:
        return _two_parts(round(value), 60, "min", "s")
    if round(value / MINUTE) < 2 * DAY / MINUTE:
        return _two_parts(round(value / MINUTE), 60, "h", "min")
    if value < 2 * YEAR:
        return f"about {significant(value / DAY, 2)} days"
    return f"about {significant(value / YEAR, 2)} years"


def format_count(value: float | None, digits: int = 3) -> str:
    """Count with a decimal suffix: "8.03B", "124M", "12.3K", "512"."""
    if value is None:
        return UNKNOWN
    return _suffixed(value, digits, (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)), "")


def format_integer(value: int | None) -> str:
    """Exact whole number with thousands separators: "8,030,261,248"."""
    return UNKNOWN if value is None else f"{value:,d}"


def format_rate(value: float | None, unit: str = "tokens/s", digits: int = 3) -> str:
    """Rate [1/s]: "12,300 tokens/s", from a million on "1.23M tokens/s"."""
    if value is None:
        return UNKNOWN
    return f"{_suffixed(value, digits, (('B', 1e9), ('M', 1e6)), '')} {unit}"


def format_flops(value: float | None, *, per_second: bool = False, digits: int = 3) -> str:
    """FLOP count, or rate [FLOP/s] with `per_second`: "1.2 EFLOP", "989 TFLOP/s"."""
    if value is None:
        return UNKNOWN
    prefixes: tuple[tuple[str, float], ...] = (
        ("Y", 1e24),
        ("Z", 1e21),
        ("E", 1e18),
        ("P", 1e15),
        ("T", 1e12),
        ("G", 1e9),
        ("M", 1e6),
    )
    if per_second and abs(value) < 1e16:
        prefixes = prefixes[4:]  # devices are compared in TFLOP/s: 1,979 TFLOP/s, not 1.98 PFLOP/s
    return (
        f"{_suffixed(value, digits, prefixes, ' ')}{'' if abs(value) >= 1e6 else ' '}FLOP{'/s' if per_second else ''}"
    )


def format_usd(value: float | None) -> str:
    """US dollars: "$1,234", "$12.50", "$0.0042" (two significant digits below one cent)."""
    if value is None:
        return UNKNOWN
    sign, amount = ("-" if value < 0 else ""), abs(value)
    if round(amount, 2) >= 100:
        return (
            f"{sign}${amount:,.0f}" if amount < 1e6 else f"{sign}${_suffixed(amount, 3, (('B', 1e9), ('M', 1e6)), '')}"
        )
    if amount == 0 or round(amount, 2) >= 0.01:
        return f"{sign}${amount:.2f}"
    return f"{sign}${significant(amount, 2)}"


def format_energy(kwh: float | None, digits: int = 3) -> str:
    """Energy [kWh] in Wh, kWh, MWh or GWh."""
    if kwh is None:
        return UNKNOWN
    for unit, size in (("GWh", 1e6), ("MWh", 1e3), ("kWh", 1.0)):
        if abs(kwh) >= size:
            return f"{significant(kwh / size, digits)} {unit}"
    return f"{significant(kwh * 1e3, digits)} Wh"


def format_mass(kg: float | None, digits: int = 3) -> str:
    """Mass [kg] in g, kg or t."""
    if kg is None:
        return UNKNOWN
    if abs(kg) >= 1e3:
        return f"{significant(kg / 1e3, digits)} t"
    return f"{significant(kg, digits)} kg" if abs(kg) >= 1 else f"{significant(kg * 1e3, digits)} g"


def format_percent(fraction: float | None, digits: int = 3) -> str:
    """Fraction as percent: 0.423 becomes "42.3 %"."""
    return UNKNOWN if fraction is None else f"{significant(100 * fraction, digits)} %"


def format_interval(
    interval: tuple[float, float] | None,
    formatter: Callable[[float], str] = format_seconds,
) -> str:
    """Interval "low to high"; a unit that both ends share is written once ("3.1 to 3.6 s")."""
    if interval is None:
        return UNKNOWN
    low, high = (formatter(end) for end in interval)
    if low == high:
        return low
    high = high.removeprefix("about ") if low.startswith("about ") else high
    low_number, _, low_unit = low.rpartition(" ")
    high_number, _, high_unit = high.rpartition(" ")
    shared = low_unit == high_unit and " " not in low_number.removeprefix("about ") + high_number
    return f"{low_number if shared and low_number else low} to {high}"


def _two_parts(total: int, base: int, large: str, small: str) -> str:
    first, rest = divmod(total, base)
    return f"{first} {large} {rest} {small}" if rest else f"{first} {large}"


def _suffixed(value: float, digits: int, steps: tuple[tuple[str, float], ...], gap: str) -> str:
    rounded = float(f"{value:.{digits - 1}e}")
    for suffix, size in steps:
        if abs(rounded) >= size:
            return f"{significant(value / size, digits)}{gap}{suffix}"
    return significant(value, digits)
