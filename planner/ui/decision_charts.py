"""Charts of decisions: cost over time with the Pareto line, sweeps of one input, a map of two."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from planner import units
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.estimate.verdict import FITS
from planner.search.compare import Compared
from planner.ui.charts import Theme, styled

SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "cross", "pentagon", "hexagon")


def trade_off(rows: Sequence[Compared], line: Sequence[Compared], baseline: str, theme: Theme, size: float, unit: str) -> go.Figure:
    """Cost over time. One colour and symbol an accelerator; hollow and grey what does not fit; the baseline ringed."""
    figure = go.Figure()
    known = [row for row in rows if row.time is not None and row.cost is not None]
    if len(line) > 1:
        figure.add_scatter(
            x=[(row.time or 0) / size for row in line], y=[row.cost for row in line], mode="lines", name="nothing is better in both",
            line={"color": theme.faint, "width": 1.5, "dash": "dot"}, hoverinfo="skip",
        )  # fmt: skip
    groups = list(dict.fromkeys(str(row.estimate.details["accelerator"]) for row in known if row.rank is not None))
    for i, group in enumerate(groups):
        _dots(
            figure, [row for row in known if row.rank is not None and row.estimate.details["accelerator"] == group], group, size,
            {"color": theme.palette[(0, 3, 1, 2, 4, 5, 6, 7)[i % 8] % len(theme.palette)], "size": 11, "symbol": SYMBOLS[i % len(SYMBOLS)]},
        )  # fmt: skip
    if hollow := [row for row in known if row.rank is None]:
        _dots(figure, hollow, "does not fit", size, {"color": theme.faint, "size": 9, "symbol": "circle-open", "opacity": 0.7})
    for row in known:
        if row.name == baseline:
            figure.add_scatter(
                x=[(row.time or 0) / size], y=[row.cost], mode="markers", name="baseline", hoverinfo="skip",
                marker={"symbol": "circle-open", "size": 20, "color": theme.ink, "line": {"width": 2}},
            )  # fmt: skip
    styled(figure, theme, height=380)
    figure.update_layout(
        legend={"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0, "font": {"size": 12}}, margin={"t": 10, "b": 10}
    )
    figure.update_xaxes(title=f"time [{unit}]", rangemode="tozero", gridcolor=theme.line, nticks=6)
    figure.update_yaxes(title={"text": "cost [USD]", "standoff": 12}, rangemode="tozero", gridcolor=theme.line, nticks=6)
    return figure


def _dots(figure: go.Figure, rows: Sequence[Compared], name: str, size: float, marker: dict[str, object]) -> None:
    figure.add_scatter(
        x=[(row.time or 0) / size for row in rows], y=[row.cost for row in rows], mode="markers", name=name, marker=marker, cliponaxis=False,
        text=[f"{row.name}<br>{units.format_seconds(row.time)}, {units.format_usd(row.cost)}, {units.format_bytes(row.reserved)}" for row in rows],
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def trade_off_alt(rows: Sequence[Compared], line: Sequence[Compared]) -> str:
    """The chart in a sentence."""
    if not line:
        return "Cost over time: no compared plan fits and has both a time and a cost."
    first, last = line[0], line[-1]
    quickest = f"{first.name} with {units.format_seconds(first.time)} for {units.format_usd(first.cost)}"
    shown = f"Cost over time of {len(rows)} plans. The quickest that fits is {quickest}"
    if last is first:
        return f"{shown}; it is also the cheapest."
    return f"{shown}; the cheapest is {last.name} with {units.format_usd(last.cost)} in {units.format_seconds(last.time)}."


def sweep(labels: Sequence[str], values: Sequence[float | None], fits: Sequence[bool | None], here: int | None, theme: Theme, unit: str,
          limit: float | None = None) -> go.Figure:  # fmt: skip
    """One figure over the values of one input. here: index of the plan's own value · limit: a dashed line, such as the usable memory."""
    figure = go.Figure()
    figure.add_scatter(
        x=list(labels), y=list(values), mode="lines", line={"color": theme.faint, "width": 1.5}, showlegend=False, hoverinfo="skip", connectgaps=True
    )
    figure.add_scatter(
        x=list(labels), y=list(values), mode="markers", showlegend=False, cliponaxis=False,
        marker={
            "size": 10,
            "color": [theme.accent if fit else theme.faint for fit in fits],
            "symbol": ["circle" if fit else "circle-dot" if fit is None else "circle-open" for fit in fits],
            "line": {"width": 2, "color": theme.faint},
        },
        text=[FITS[fit] for fit in fits], hovertemplate=f"%{{x}}: %{{y:.3~g}} {unit}, %{{text}}<extra></extra>",
    )  # fmt: skip
    if here is not None and values[here] is not None:
        figure.add_scatter(
            x=[labels[here]], y=[values[here]], mode="markers", showlegend=False, hoverinfo="skip", cliponaxis=False,
            marker={"symbol": "circle-open", "size": 20, "color": theme.ink, "line": {"width": 2}},
        )  # fmt: skip
    known = [value for value in values if value is not None]
    top = max(known, default=1.0)
    if limit is not None:
        figure.add_hline(y=limit, line={"color": theme.ink, "width": 1.5, "dash": "dash"})
        top = max(top if top < 3 * limit else 3 * limit, limit)
    styled(figure, theme, height=240)
    figure.update_layout(margin={"t": 10, "b": 8})
    figure.update_xaxes(type="category", showgrid=False, showline=True, linecolor=theme.line)
    figure.update_yaxes(title={"text": unit, "standoff": 10}, range=[0, 1.15 * top], gridcolor=theme.line, nticks=5)
    return figure


def heat_map(xs: Sequence[str], ys: Sequence[str], cells: Sequence[Sequence[Estimate | PlanError]], here: tuple[int, int] | None, theme: Theme,
             seconds: Sequence[Sequence[float | None]], size: float = 1.0) -> go.Figure:  # fmt: skip
    """Time by two inputs; grey, with the memory in GiB, where it does not fit; ? where it is too close to call; the plan ringed.

    size: of the unit of time [s].
    """
    import math

    fit = [[not isinstance(one, PlanError) and one.fits is not False for one in row] for row in cells]
    shown = [[math.log10(t) if ok and t else None for ok, t in zip(f, s, strict=True)] for f, s in zip(fit, seconds, strict=True)]
    grey = [[None if ok else 1.0 for ok in row] for row in fit]
    texts = [[_cell(one, t, size) for one, t in zip(row, s, strict=True)] for row, s in zip(cells, seconds, strict=True)]
    hover = [[_hover(one, t) for one, t in zip(row, s, strict=True)] for row, s in zip(cells, seconds, strict=True)]
    low, high = theme.ground, theme.accent
    figure = go.Figure()
    figure.add_heatmap(
        x=list(xs), y=list(ys), z=grey, showscale=False, colorscale=[[0, theme.line], [1, theme.line]], xgap=2, ygap=2, text=_only(texts, grey),
        texttemplate="%{text}", textfont={"color": theme.faint, "size": 11}, customdata=hover, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    figure.add_heatmap(
        x=list(xs), y=list(ys), z=shown, showscale=False, colorscale=[[0, high], [1, low]], xgap=2, ygap=2, text=_only(texts, shown),
        texttemplate="%{text}", textfont={"size": 11}, customdata=hover, hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    if here is not None:
        x, y = here
        figure.add_shape(
            type="rect", x0=x - 0.47, x1=x + 0.47, y0=y - 0.46, y1=y + 0.46, line={"color": theme.ink, "width": 3}, xref="x", yref="y"
        )
    styled(figure, theme, height=80 + 44 * len(ys))
    figure.update_layout(margin={"t": 10, "b": 10})
    figure.update_xaxes(type="category", title="micro batch [sequences]", showgrid=False)
    figure.update_yaxes(type="category", title={"text": "sequence [tokens]", "standoff": 12}, showgrid=False)
    return figure


def _only(texts: Sequence[Sequence[str]], values: Sequence[Sequence[float | None]]) -> list[list[str]]:
    """Texts of the cells that have a value; the other layer writes the rest."""
    return [[text if value is not None else "" for text, value in zip(row, known, strict=True)] for row, known in zip(texts, values, strict=True)]


def _cell(one: Estimate | PlanError, seconds: float | None, size: float) -> str:
    """Short enough for a cell on a phone."""
    if isinstance(one, PlanError) or seconds is None:
        return "–"
    if one.fits is False:
        return units.significant(one.peak_reserved_bytes / units.GIB, 2)
    return units.significant(seconds / size, 3) + ("?" if one.fits is None else "")


def _hover(one: Estimate | PlanError, seconds: float | None) -> str:
    if isinstance(one, PlanError):
        return f"{one.field} {one.problem}"
    return f"{units.format_seconds(seconds)}, {units.format_bytes(one.peak_reserved_bytes)}: {FITS[one.fits]}"


def bars(names: Sequence[str], lows: Sequence[float], highs: Sequence[float], now: float, theme: Theme, unit: str) -> go.Figure:
    """A tornado: how far each assumption alone moves a figure, the widest on top."""
    figure = go.Figure()
    for values, colour, name in ((lows, theme.accent, "low"), (highs, theme.palette[1 % len(theme.palette)], "high")):
        figure.add_bar(
            x=[value - now for value in values], y=list(names), base=now, orientation="h", name=name, showlegend=False,
            marker={"color": colour}, customdata=list(values), hovertemplate="%{y}: %{customdata:.3~g} " + unit + "<extra></extra>",
        )  # fmt: skip
    figure.add_vline(x=now, line={"color": theme.ink, "width": 1.5})
    styled(figure, theme, height=70 + 34 * len(names))
    figure.update_layout(barmode="overlay", bargap=0.35, margin={"t": 8, "b": 8})
    figure.update_xaxes(title=unit, gridcolor=theme.line, nticks=6)
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False, ticklabelstandoff=6)
    return figure
