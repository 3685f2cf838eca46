"""Charts hold the figures of the ledger, in colours that stay the same, with a sentence for who cannot see them."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from planner import estimate, units
from planner.estimate.result import Estimate
from planner.report.svg import COLOURS
from planner.run import parse_run
from planner.summary import COMPONENTS, memory_parts
from planner.ui import charts, state

ROOT = Path(__file__).resolve().parents[2]
CONFIG = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))


def theme(mode: str) -> charts.Theme:
    t = CONFIG["theme"][mode]
    return charts.Theme(
        t["textColor"],
        t["grayColor"],
        t["borderColor"],
        t["backgroundColor"],
        t["primaryColor"],
        tuple(t["chartCategoricalColors"]),
    )


def test_the_colours_in_the_code_are_those_of_the_committed_themes() -> None:
    assert (theme("light"), theme("dark")) == (charts.LIGHT, charts.DARK)


@pytest.fixture(scope="module", params=["fits", "over"])
def plan(request: pytest.FixtureRequest) -> Estimate:
    return estimate(parse_run(state.run_mapping({"method": "full"} if request.param == "over" else {})))


def bars(figure: Any) -> list[Any]:
    return [trace for trace in figure.data if trace.type == "bar"]


def test_the_bar_is_the_reserved_peak(plan: Estimate) -> None:
    figure = charts.memory_bar(plan, theme("light"))
    assert math.fsum(trace.x[0] for trace in bars(figure)) == pytest.approx(plan.peak_reserved_bytes / units.GIB)
    line = figure.layout.shapes[0]
    assert line.x0 == line.x1 == pytest.approx(plan.usable_memory_bytes / units.GIB)
    assert "usable" in figure.layout.annotations[0].text


def test_what_stands_beyond_the_line_is_hatched(plan: Estimate) -> None:
    figure = charts.memory_bar(plan, theme("light"))
    hatched = math.fsum(trace.x[0] for trace in bars(figure) if trace.marker.pattern.shape)
    over = max(0.0, plan.peak_reserved_bytes - plan.usable_memory_bytes)
    assert hatched == pytest.approx(over / units.GIB, abs=1e-9)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_one_colour_for_each_component_everywhere(plan: Estimate, mode: str) -> None:
    colours = theme(mode)
    wanted = {label: colours.component(name) for name, label in charts.NAMES.items()}
    assert len(set(wanted.values())) == len(COMPONENTS)
    for trace in bars(charts.memory_bar(plan, colours)):
        assert trace.marker.color == wanted[trace.name]
    for trace in charts.memory_curve(plan, colours).data:
        if trace.stackgroup:
            assert trace.fillcolor == wanted[trace.name]


def test_reports_have_the_colours_of_the_light_theme() -> None:
    assert {name: theme("light").component(name) for name in COMPONENTS} == COLOURS


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_reads_on_its_ground(mode: str) -> None:
    """Contrast of WCAG 2: 4.5 for text, 3 for parts of a chart."""
    colours = theme(mode)
    assert contrast(colours.ink, colours.ground) > 7
    assert contrast(colours.faint, colours.ground) > 4.5
    for colour in colours.palette:
        assert contrast(colours.on(colour), colour) > 4.5
    assert contrast(colours.accent, colours.ground) > 4.5


def test_step_bars_are_the_step(plan: Estimate) -> None:
    for by in ("kernel", "phase"):
        figure = charts.step_bars(plan, theme("light"), by)
        assert math.fsum(figure.data[0].x) == pytest.approx(plan.step_time_s)
        assert list(figure.data[0].x)[:-1] == sorted(list(figure.data[0].x)[:-1], reverse=True) or by == "phase"


def test_the_curve_keeps_its_peak(plan: Estimate) -> None:
    points = charts.thinned(plan.memory_curve)
    assert len(points) <= charts.MOST_POINTS + 2
    assert max(point.allocated for point in points) == pytest.approx(plan.peak_memory_bytes)
    assert (points[0], points[-1]) == (plan.memory_curve[0], plan.memory_curve[-1])
    stacked = [trace for trace in charts.memory_curve(plan, theme("light")).data if trace.stackgroup]
    peak = max(map(math.fsum, zip(*(trace.y for trace in stacked), strict=True)))
    assert peak == pytest.approx(plan.peak_memory_bytes / units.GIB)


def test_every_chart_has_a_sentence(plan: Estimate) -> None:
    relation = "over" if plan.peak_reserved_bytes > plan.usable_memory_bytes else "of"
    assert f"{relation} the usable {units.format_bytes(plan.usable_memory_bytes)}" in charts.memory_bar_alt(plan)
    assert units.format_seconds(plan.step_time_s) in charts.step_bars_alt(plan)
    assert units.format_bytes(plan.peak_memory_bytes) in charts.memory_curve_alt(plan)
    assert {part.label for part in memory_parts(plan)} & set(
        charts.memory_bar_alt(plan).split(". ")[1].split(" are ")[:1]
    )


def test_predicted_and_measured() -> None:
    rows = [
        {"measured": 100.0, "predicted": 105.0, "group": "a", "name": "x"},
        {"measured": 2000.0, "predicted": 3000.0, "group": "b", "name": "y"},
    ]
    figure = charts.predicted_and_measured(rows, theme("dark"), "tokens/s")
    assert [list(trace.x) for trace in figure.data if trace.mode == "markers"] == [[100.0], [2000.0]]
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
    assert "log" in figure.layout.xaxis.title.text
    assert (
        charts.predicted_and_measured_alt(rows)
        == "Predicted over measured for 2 published runs; 1 of them lie within ± 10 %."
    )
    assert charts.predicted_and_measured([], theme("dark"), "GiB").data


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)
