"""Charts: an estimate in, a Plotly figure out. Nothing is computed here but positions; every chart has a sentence for who cannot see it.

One colour for each memory component, the same everywhere. Plotly does not take colours of a page's theme by itself, so they are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from planner import units
from planner.estimate.result import Estimate, MemoryPoint
from planner.summary import COMPONENTS, EXCHANGES, Part, kind_parts, memory_parts, time_parts
from planner.ui.texts import KINDS

FONT: Final = '"Source Sans", "Source Sans 3", sans-serif'
LABELLED: Final = 0.05
"""Share of the bar from which a part has its figure written in it."""
MOST_POINTS: Final = 300
PHASES: Final = {"forward": "forward", "backward": "backward", "optimizer": "optimizer"}


@dataclass(frozen=True)
class Theme:
    """Colours of one appearance."""

    ink: str
    faint: str
    line: str
    ground: str
    accent: str
    palette: tuple[str, ...]

    def component(self, name: str) -> str:
        """The colour of a memory component."""
        order = list(COMPONENTS)
        return self.palette[order.index(name) % len(self.palette)] if name in order else self.faint

    def kind(self, name: str) -> str:
        """The colour of a part of the step: one for work, one for what is exchanged, a faint one for waiting."""
        if name in ("bubble", "launch", "overhead", "rest"):
            return self.faint
        return self.component("communication") if name in ("communication", *EXCHANGES) else self.accent

    def on(self, colour: str) -> str:
        """Black or white, whichever reads better on a colour (relative luminance of WCAG 2, section 1.4.3)."""
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#0d1312"


NAMES: Final = COMPONENTS | {
    "optimizer": "Optimizer",
    "logits": "Logits, loss",
    "communication": "Communication",
    "reserved": "Allocator",
}
"""Names of components that leave room for two columns of a legend on a phone."""

LIGHT: Final = Theme(
    "#101615",
    "#5f6b68",
    "#d5dbd9",
    "#ffffff",
    "#0d6b64",
    ("#0f766e", "#d9982b", "#8e5bb5", "#4a7fe0", "#b4472f", "#56b4c9", "#7a6a4f", "#9aa6a1"),
)
DARK: Final = Theme(
    "#e6edeb",
    "#9aa8a4",
    "#33403d",
    "#111716",
    "#2dd4bf",
    ("#2dd4bf", "#f2b84b", "#c39be8", "#7ba3f7", "#ec8268", "#86d7e6", "#bfa780", "#85928e"),
)
"""The colours of the committed themes, for where the app is started without its configuration."""


def memory_bar(e: Estimate, theme: Theme) -> go.Figure:
    """One stacked bar of what is held at the peak, the usable memory as a line, what stands beyond it hatched, the 90 % interval as a whisker."""
    figure, start, usable = go.Figure(), 0.0, e.usable_memory_bytes
    total = e.peak_reserved_bytes
    for part in memory_parts(e):
        end = start + part.value
        colour = theme.component(part.name)
        inside = part.value if usable is None else max(0.0, min(end, usable) - start)
        hover = f"{part.label}: {units.format_bytes(part.value)}, {units.format_percent(part.share, 2)}" + (
            f"<br>{part.detail}" if part.detail else ""
        )
        label = units.significant(part.value / units.GIB, 3) if part.share >= LABELLED else ""
        for length, beyond in ((inside, False), (part.value - inside, True)):
            if length <= 0:
                continue
            pattern = (
                {
                    "shape": "/",
                    "fillmode": "overlay",
                    "fgcolor": theme.ground,
                    "fgopacity": 0.8,
                    "size": 8,
                    "solidity": 0.4,
                }
                if beyond
                else None
            )
            figure.add_bar(
                x=[length / units.GIB],
                y=[""],
                orientation="h",
                name=NAMES.get(part.name, part.label),
                legendgroup=part.name,
                showlegend=not beyond or inside <= 0,
                marker={"color": colour, "pattern": pattern, "line": {"color": theme.ground, "width": 1}},
                hovertemplate=hover + "<extra></extra>",
                text=label if length >= part.value / 2 and not beyond else "",
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                insidetextfont={"color": theme.on(colour), "size": 13},
            )
        start = end
    low, high = e.peak_memory_interval_bytes
    right = 1.06 * max(total, usable or 0.0)
    edge = max(right, min(1.03 * high, 1.6 * right))
    figure.add_scatter(
        x=[low / units.GIB, min(high, edge) / units.GIB],
        y=["", ""],
        mode="lines+markers",
        line={"color": theme.ink, "width": 1.5},
        showlegend=False,
        marker={"symbol": "line-ns-open", "size": 11, "color": theme.ink, "line": {"width": 1.5}},
        cliponaxis=False,
        hovertemplate=f"90 % interval: {units.format_interval((low, high), units.format_bytes)}<extra></extra>",
    )
    figure.data[-1].update(yaxis="y2")
    if usable is not None:
        x = usable / units.GIB
        figure.add_shape(
            type="line",
            x0=x,
            x1=x,
            y0=-0.02,
            y1=1.02,
            yref="paper",
            line={"color": theme.ink, "width": 2, "dash": "dash"},
        )
        side = "right" if x > 0.5 * edge / units.GIB else "left"
        figure.add_annotation(
            x=x,
            y=1.02,
            yref="paper",
            yanchor="bottom",
            xanchor=side,
            text=f"usable {units.format_bytes(usable)}",
            showarrow=False,
            font={"color": theme.ink},
        )
    styled(figure, theme, height=218)
    figure.update_layout(
        barmode="stack",
        bargap=0,
        legend={
            "orientation": "h",
            "y": -0.42,
            "yanchor": "top",
            "x": 0,
            "traceorder": "normal",
            "itemwidth": 30,
            "font": {"size": 12},
        },
        margin={"t": 26, "b": 10},
        uniformtext={"mode": "hide", "minsize": 11},
        yaxis={"visible": False, "domain": [0, 0.78], "fixedrange": True},
        yaxis2={"visible": False, "domain": [0.82, 0.98], "fixedrange": True, "anchor": "x"},
    )
    figure.update_xaxes(
        range=[0, edge / units.GIB],
        ticksuffix=" GiB",
        nticks=6,
        showgrid=False,
        showline=True,
        linecolor=theme.line,
        anchor="y",
    )
    return figure


def memory_bar_alt(e: Estimate) -> str:
    """The memory bar in a sentence."""
    total, usable, parts = e.peak_reserved_bytes, e.usable_memory_bytes, memory_parts(e)
    relation = (
        "of unknown usable memory"
        if usable is None
        else f"{'over' if total > usable else 'of'} the usable {units.format_bytes(usable)}"
    )
    largest = max(parts, key=lambda part: part.value)
    return f"Memory at the peak: {units.format_bytes(total)} {relation}. {largest.label} are the largest part with {units.format_bytes(largest.value)}."


def step_bars(e: Estimate, theme: Theme, by: str = "kernel") -> go.Figure:
    """Where a step goes: one bar a kind of kernel, or a phase, the longest on top."""
    parts = step_parts(e, by)
    longest = max((part.value for part in parts), default=1.0)
    names = [KINDS.get(part.name, part.label) for part in parts]
    figure = go.Figure(
        go.Bar(
            x=[part.value for part in parts],
            y=names,
            orientation="h",
            marker={"color": [theme.kind(part.name) for part in parts]},
            text=[f"{units.format_seconds(part.value, 2)} · {units.format_percent(part.share, 2)}" for part in parts],
            textposition="outside",
            cliponaxis=False,
            textfont={"color": theme.ink},
            hovertext=[part.detail for part in parts],
            hovertemplate="%{y}: %{text}<br>%{hovertext}<extra></extra>",
        )
    )
    styled(figure, theme, height=max(120, 38 * len(parts) + 16))
    figure.update_layout(bargap=0.35, margin={"t": 4, "b": 4})
    figure.update_xaxes(visible=False, range=[0, 1.62 * longest])
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False, ticklabelstandoff=6)
    return figure


def step_parts(e: Estimate, by: str = "kernel") -> tuple[Part, ...]:
    """The parts that the step chart shows: what is shorter than 0.5 % of the step is one part."""
    parts = kind_parts(e) if by == "kernel" else time_parts(e)
    large = [part for part in parts if part.share >= 0.005]
    rest = [part for part in parts if part.share < 0.005]
    if len(rest) < 2:
        return tuple(parts)
    value = sum(part.value for part in rest)
    labels = ", ".join(KINDS.get(part.name, part.label) for part in rest)
    return (*large, Part("rest", "The rest", value, sum(part.share for part in rest), labels))


def step_bars_alt(e: Estimate, by: str = "kernel") -> str:
    """The step chart in a sentence."""
    parts = step_parts(e, by)
    first = max(parts, key=lambda part: part.value)
    return f"Where a step goes: {KINDS.get(first.name, first.label)}, {units.format_percent(first.share, 2)} of {units.format_seconds(e.step_time_s)}."


def memory_curve(e: Estimate, theme: Theme) -> go.Figure:
    """Live memory over one step, stacked by component, with the peak and the usable memory."""
    points = thinned(e.memory_curve)
    figure = go.Figure()
    x = [100 * point.progress for point in points]
    for name, label in NAMES.items():
        y = [point.parts.get(name, 0.0) / units.GIB for point in points]
        if not any(y):
            continue
        colour = theme.component(name)
        figure.add_scatter(
            x=x,
            y=y,
            name=label,
            mode="lines",
            stackgroup="live",
            line={"width": 0, "color": colour},
            fillcolor=colour,
            text=[units.format_bytes(value * units.GIB) for value in y],
            hovertemplate=label + ": %{text}<extra></extra>",
        )
    peak = max(points, key=lambda point: point.allocated)
    top, height = peak.allocated / units.GIB, 1.22 * peak.allocated / units.GIB
    usable = None if e.usable_memory_bytes is None else e.usable_memory_bytes / units.GIB
    if usable is not None and usable < 2.2 * top:
        height = max(height, 1.12 * usable)
        figure.add_shape(
            type="line", x0=0, x1=100, y0=usable, y1=usable, line={"color": theme.ink, "width": 2, "dash": "dash"}
        )
        figure.add_annotation(
            x=100,
            y=usable,
            xanchor="right",
            yanchor="bottom",
            yshift=3,
            text=f"usable {units.format_bytes(e.usable_memory_bytes)}",
            showarrow=False,
            font={"color": theme.ink},
            bgcolor=theme.ground,
        )
    at = 100 * peak.progress
    figure.add_scatter(
        x=[at],
        y=[top],
        mode="markers",
        marker={"size": 9, "color": theme.ink, "line": {"color": theme.ground, "width": 2}},
        showlegend=False,
        hoverinfo="skip",
    )
    figure.add_annotation(
        x=at,
        y=top,
        text=f"peak {units.format_bytes(peak.allocated)}",
        showarrow=False,
        yanchor="bottom",
        yshift=8,
        font={"color": theme.ink},
        bgcolor=theme.ground,
        xanchor="left" if at < 20 else "right" if at > 80 else "center",
    )
    for phase in dict.fromkeys(point.phase for point in points):
        inside = [100 * point.progress for point in points if point.phase == phase]
        first, last = inside[0], inside[-1]
        if first > 1:
            figure.add_shape(
                type="line",
                x0=first,
                x1=first,
                y0=0,
                y1=1,
                yref="paper",
                line={"color": theme.faint, "width": 1, "dash": "dot"},
            )
        if last - first > 8:
            figure.add_annotation(
                x=(first + last) / 2,
                y=-0.02,
                yref="paper",
                yanchor="top",
                text=PHASES[phase],
                showarrow=False,
                font={"color": theme.faint},
            )
    styled(figure, theme, height=330)
    figure.update_layout(
        hovermode="x unified",
        legend={
            "orientation": "h",
            "y": -0.14,
            "yanchor": "top",
            "x": 0,
            "traceorder": "normal",
            "itemwidth": 30,
            "font": {"size": 12},
        },
        margin={"t": 10, "b": 10},
    )
    figure.update_layout(hoverlabel={"bgcolor": theme.ground, "bordercolor": theme.line, "font": {"color": theme.ink}})
    figure.update_xaxes(range=[0, 100], showticklabels=False, showgrid=False, title=None)
    figure.update_yaxes(range=[0, height], title="GiB", nticks=6, gridcolor=theme.line)
    return figure


def memory_curve_alt(e: Estimate) -> str:
    """The memory curve in a sentence."""
    peak = max(e.memory_curve, key=lambda point: point.allocated)
    return f"Allocated memory over one step; the peak of {units.format_bytes(peak.allocated)} is in the {peak.phase} phase ({e.peak_moment})."


def thinned(points: Sequence[MemoryPoint]) -> list[MemoryPoint]:
    """At most about `MOST_POINTS` points: of each stretch its lowest and highest, so that no peak is lost."""
    every = list(points)
    if len(every) <= MOST_POINTS:
        return every
    sizes = np.array([point.allocated for point in every])
    kept = {0, len(every) - 1}
    for stretch in np.array_split(np.arange(len(every)), MOST_POINTS // 2):
        kept |= {int(stretch[sizes[stretch].argmin()]), int(stretch[sizes[stretch].argmax()])}
    return [every[i] for i in sorted(kept)]


def predicted_and_measured(rows: Sequence[Mapping[str, Any]], theme: Theme, unit: str) -> go.Figure:
    """Predicted over measured, both logarithmic, one dot a published run, with a band of ± 10 %.

    rows: `measured`, `predicted`, `group` (which gives the colour) and `name` (shown on hover) of each run.
    """
    figure = go.Figure()
    groups = list(dict.fromkeys(str(row["group"]) for row in rows))
    values = [float(row[key]) for row in rows for key in ("measured", "predicted")]
    low, high = (min(values) / 1.4, max(values) * 1.4) if values else (1.0, 10.0)
    figure.add_scatter(
        x=[low, high, high, low],
        y=[0.9 * low, 0.9 * high, 1.1 * high, 1.1 * low],
        fill="toself",
        fillcolor=_faded(theme.faint, 0.25),
        line={"width": 0},
        mode="lines",
        name="± 10 %",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": theme.faint, "width": 1},
        showlegend=False,
        hoverinfo="skip",
    )
    symbols = ("circle", "diamond", "square", "triangle-up", "x", "cross", "star", "pentagon")
    for i, group in enumerate(groups):
        members = [row for row in rows if str(row["group"]) == group]
        figure.add_scatter(
            x=[row["measured"] for row in members],
            y=[row["predicted"] for row in members],
            mode="markers",
            name=group,
            text=[row["name"] for row in members],
            marker={
                "color": theme.palette[(0, 3, 1, 2, 4, 5, 6, 7)[i % 8] % len(theme.palette)],
                "size": 6,
                "opacity": 0.75,
                "symbol": symbols[i % len(symbols)],
            },
            hovertemplate="%{text}<br>measured %{x:.3s}, predicted %{y:.3s}<extra></extra>",
        )
    styled(figure, theme, height=460)
    figure.update_layout(
        legend={"orientation": "h", "y": -0.19, "yanchor": "top", "x": 0, "font": {"size": 12}},
        margin={"t": 10, "b": 10},
    )
    span = [float(np.log10(low)), float(np.log10(high))]
    figure.update_xaxes(
        type="log",
        range=span,
        title={"text": f"measured [{unit}], log", "font": {"size": 13}},
        gridcolor=theme.line,
        dtick=1,
    )
    figure.update_yaxes(
        type="log",
        range=span,
        title={"text": f"predicted [{unit}], log", "font": {"size": 13}},
        gridcolor=theme.line,
        dtick=1,
    )
    return figure


def predicted_and_measured_alt(rows: Sequence[Mapping[str, Any]]) -> str:
    """The accuracy chart in a sentence."""
    near = sum(abs(row["predicted"] / row["measured"] - 1) <= 0.1 for row in rows)
    return f"Predicted over measured for {len(rows)} published runs; {near} of them lie within ± 10 %."


def _faded(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def styled(figure: go.Figure, theme: Theme, height: int) -> None:
    """Give a figure the theme's colours and no frame, tools or zoom."""
    figure.update_layout(
        height=height,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        dragmode=False,
        showlegend=None,
        font={"family": FONT, "size": 13, "color": theme.ink},
        margin={"l": 4, "r": 8},
        hoverlabel={"bgcolor": theme.ground, "bordercolor": theme.line, "font": {"family": FONT, "color": theme.ink}},
    )
    figure.update_xaxes(
        fixedrange=True,
        zeroline=False,
        tickfont={"color": theme.faint},
        title_font={"color": theme.faint},
        automargin=True,
    )
    figure.update_yaxes(fixedrange=True, zeroline=False, title_font={"color": theme.faint}, automargin=True)
