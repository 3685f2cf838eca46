"""Units: what people type, what they read back, and what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import units
from planner.errors import PlanError


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1.5B", 1_500_000_000),
        ("250M", 250_000_000),
        ("250M tokens", 250_000_000),
        ("2e9", 2_000_000_000),
        ("1,000,000", 1_000_000),
        ("12_345", 12_345),
        ("12 million", 12_000_000),
        ("3 epochs of 80M", 240_000_000),
        ("2T", 2 * 10**12),
        (".5k", 500),
        (12345, 12345),
        (12345.0, 12345),
    ],
)
def test_counts(text: object, count: int) -> None:
    assert units.parse_count(text, "data.tokens") == count


@pytest.mark.parametrize(
    "bad",
    ["", "nan", "inf", "-3", "1.5", "1,5", "12,34", "1e400", "9" * 5000, 10**5000, -(10**5000), True, None, [], math.nan,
     math.inf, -1.0, 0, "0", "5 apples", "$5", "1e25", "٣", "1 2", "<b>1</b>"],
    ids=range(25),
)  # fmt: skip
def test_bad_counts_name_the_field(bad: object) -> None:
    with pytest.raises(PlanError) as caught:
        units.parse_count(bad, "data.tokens")
    assert caught.value.field == "data.tokens"
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("24h", 86_400),
        ("3 days", 259_200),
        ("1 h 30 min", 5_400),
        ("90s", 90),
        (90, 90),
        ("1h30m", 5_400),
        ("0.5 d", 43_200),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert units.parse_duration(text, "deadline") == pytest.approx(seconds)


@pytest.mark.parametrize("bad", ["1h30", "-1h", "1 fortnight", "h", "", "nan", None, math.inf, -1, True, "1e999 h"])
def test_bad_durations(bad: object) -> None:
    with pytest.raises(PlanError) as caught:
        units.parse_duration(bad, "deadline")
    assert caught.value.field == "deadline"


def test_bytes_keep_decimal_and_binary_apart() -> None:
    assert units.parse_bytes("80 GB") == 80 * 10**9
    assert units.parse_bytes("24GiB") == 24 * 2**30
    for bad in ("-7", "x", "nan", "5 bits", 10**5000):
        with pytest.raises(PlanError):
            units.parse_bytes(bad, "memory")


def test_numbers_are_finite_and_in_range() -> None:
    assert units.parse_number("3,350", "bandwidth") == 3350
    assert units.parse_usd("$2.50") == 2.5
    for bad in (math.nan, math.inf, -math.inf, -0.1, "x", True, None):
        with pytest.raises(PlanError):
            units.parse_number(bad, "bandwidth")
    with pytest.raises(PlanError, match="above 0"):
        units.parse_number(0, "bandwidth", above_zero=True)
    with pytest.raises(PlanError, match="at most 1"):
        units.parse_number(2, "share", maximum=1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (1e-5, "10 µs"), (0.2453, "245 ms"), (0.9999, "1 s"), (12.34, "12.3 s"), (59.97, "1 min"),
     (200, "3 min 20 s"), (3599.7, "1 h"), (11_400, "3 h 10 min"), (259_200, "about 3 days"), (-12.34, "-12.3 s"),
     (800 * 86_400, "about 2.2 years"), (None, "unknown")],
)  # fmt: skip
def test_seconds_as_people_say_them(seconds: float | None, text: str) -> None:
    assert units.format_seconds(seconds) == text


def test_formats() -> None:
    assert units.format_bytes(17.4 * units.GIB) == "17.4 GiB"
    assert units.format_bytes(512 * units.MIB) == "512 MiB"
    assert units.format_bytes(None) == "unknown"
    assert units.format_count(8_030_261_248) == "8.03B"
    assert units.format_count(999_999) == "1M"
    assert units.format_integer(8_030_261_248) == "8,030,261,248"
    assert units.format_rate(12_345) == "12,300 tokens/s"
    assert units.format_flops(1.2e18) == "1.2 EFLOP"
    assert units.format_flops(989.4e12, per_second=True) == "989 TFLOP/s"
    assert units.format_flops(12) == "12 FLOP"
    assert units.format_bandwidth(3.35e12) == "3,350 GB/s"
    assert units.format_energy(0.25) == "250 Wh"
    assert units.format_energy(2500) == "2.5 MWh"
    assert units.format_mass(0.25) == "250 g"
    assert units.format_percent(0.4234) == "42.3 %"


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (1234, "$1,234"),
        (12.5, "$12.50"),
        (0.0042, "$0.0042"),
        (0, "$0.00"),
        (99.999, "$100"),
        (3.4e6, "$3.4M"),
        (-5, "-$5.00"),
    ],
)
def test_usd(usd: float, text: str) -> None:
    assert units.format_usd(usd) == text


def test_intervals_share_a_unit_only_when_both_ends_have_it() -> None:
    assert units.format_interval((3.1, 3.6)) == "3.1 to 3.6 s"
    assert units.format_interval((50, 70)) == "50 s to 1 min 10 s"
    assert units.format_interval((3 * 86_400, 4 * 86_400)) == "about 3 to 4 days"
    assert units.format_interval((10, 20), units.format_usd) == "$10.00 to $20.00"
    assert units.format_interval((5, 5)) == "5 s"
    assert units.format_interval(None) == "unknown"


@given(st.integers(1, 10**24))
def test_every_count_survives_its_own_text(count: int) -> None:
    assert units.parse_count(f"{count:,d}", "n") == count
    assert units.parse_count(count, "n") == count


@given(st.floats(1e-30, 1e30, allow_nan=False), st.integers(1, 6))
def test_significant_digits_are_right(value: float, digits: int) -> None:
    shown = float(units.significant(value, digits).replace(",", ""))
    assert shown == pytest.approx(value, rel=0.51 * 10 ** (1 - digits) + 1e-12)


@given(st.text(max_size=40))
def test_parsers_only_ever_raise_plan_errors(text: str) -> None:
    for parse in (units.parse_count, units.parse_duration, units.parse_bytes, units.parse_usd):
        try:
            value = parse(text, "x")
        except PlanError:
            continue
        assert math.isfinite(value)
        assert value >= 0
