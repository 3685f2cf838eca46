"""Charts of a pipeline: stages over time, and the memory of each kind of stage."""

from __future__ import annotations

import plotly.graph_objects as go

from planner import units
from planner.estimate.pipeline import Timeline
from planner.estimate.result import Estimate
from planner.report import pipeline
from planner.ui.charts import Theme, thinned
from planner.ui.charts import styled as style


def colour_of(kind: str, theme: Theme) -> str:
    """One colour for forward, one for backward, one for weight gradients that are apart."""
    return theme.component(pipeline.COMPONENTS[kind])


def timeline(line: Timeline, theme: Theme) -> go.Figure:
    """What every stage works on, and when it waits."""
    drawn, shown = pipeline.bars(line), pipeline.rows(line)
    figure = go.Figure()
    for kind, label in pipeline.KINDS.items():
        mine = [bar for bar in drawn if bar.kind == kind]
        if not mine:
            continue
        chunk = line.chunks > 1
        figure.add_bar(
            base=[bar.start for bar in mine],
            x=[bar.end - bar.start for bar in mine],
            y=[bar.row for bar in mine],
            orientation="h",
            name=label[:1].upper() + label[1:],
            marker={"color": colour_of(kind, theme), "line": {"color": theme.ground, "width": 0.5}},
            text=[f"stage {bar.stage + 1}, micro batch {bar.batch + 1}" + (f", chunk {bar.chunk + 1}" if chunk else "") for bar in mine],
            customdata=[units.format_seconds(bar.end - bar.start) for bar in mine],
            textposition="none",
            hovertemplate=f"{label}: %{{text}}<br>%{{customdata}}<extra></extra>",
        )
    style(figure, theme, height=96 + 20 * len(shown))
    figure.update_layout(
        barmode="overlay",
        bargap=0.12,
        legend={"orientation": "h", "y": -0.18, "yanchor": "top", "x": 0, "itemwidth": 30, "font": {"size": 12}},
        margin={"t": 6, "b": 10},
    )
    figure.update_xaxes(title="time [s]", showgrid=False, nticks=6, range=[0, max(bar.end for bar in drawn)])
    figure.update_yaxes(
        autorange="reversed", tickvals=list(range(len(shown))), ticktext=[f"stage {stage + 1}" for stage in shown], showgrid=False
    )
    return figure


def stage_memory(e: Estimate, theme: Theme) -> go.Figure:
    """Allocated memory over one step of one GPU of each kind of stage."""
    figure = go.Figure()
    views = pipeline.stages_of(e)
    for view, colour in zip(views, (theme.palette * 4)[: len(views)], strict=True):
        points = thinned(view.curve)
        figure.add_scatter(
            x=[100 * point.progress for point in points],
            y=[point.allocated / units.GIB for point in points],
            name=pipeline.name_of(view, e.run.parallel.pp).capitalize(),
            mode="lines",
            line={"width": 2, "color": colour},
            text=[units.format_bytes(point.allocated) for point in points],
            hovertemplate="%{text}<extra>%{fullData.name}</extra>",
        )
    usable = e.usable_memory_bytes
    if usable is not None and usable < 2.2 * max(view.peak for view in views):
        figure.add_hline(y=usable / units.GIB, line={"color": theme.ink, "width": 2, "dash": "dash"})
    style(figure, theme, height=260)
    figure.update_layout(
        legend={"orientation": "h", "y": -0.12, "yanchor": "top", "x": 0, "itemwidth": 30, "font": {"size": 12}}, margin={"t": 10, "b": 10}
    )
    figure.update_xaxes(range=[0, 100], showticklabels=False, showgrid=False)
    figure.update_yaxes(rangemode="tozero", title="GiB", nticks=6, gridcolor=theme.line)
    return figure
