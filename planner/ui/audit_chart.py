"""The course of a run's step times, with what was planned."""

from __future__ import annotations

import plotly.graph_objects as go

from planner import units
from planner.logs.audit import Audit
from planner.ui.charts import Theme, styled
from planner.ui.language import _


def course(found: Audit, theme: Theme) -> go.Figure:
    """Seconds of a step over the steps; the planned step as a line in its 90 % interval."""
    planned = next((figure for figure in found.figures if figure.name == "step_time_s"), None)
    figure = go.Figure()
    size, unit = (1e-3, "ms") if planned is not None and planned.measured < 1 else (1.0, "s")
    if planned is not None and planned.interval is not None:
        figure.add_hrect(
            planned.interval[0] / size, planned.interval[1] / size, fillcolor=theme.accent, opacity=0.12, line_width=0, layer="below",
        )  # fmt: skip
    if planned is not None and planned.planned is not None:
        figure.add_hline(
            planned.planned / size, line={"color": theme.accent, "width": 1.5, "dash": "dash"}, annotation_text=_("planned, 90 %"),
            annotation_position="bottom right", annotation_font={"color": theme.accent, "size": 12},
        )  # fmt: skip
    figure.add_scatter(
        x=[step for step, _ in found.steps], y=[seconds / size for _, seconds in found.steps], mode="lines+markers", name="measured",
        line={"color": theme.ink, "width": 1}, marker={"color": theme.ink, "size": 5}, showlegend=False,
        text=[units.format_seconds(seconds) for _, seconds in found.steps], hovertemplate=f"{_('step')} %{{x}}: %{{text}}<extra></extra>",
    )  # fmt: skip
    styled(figure, theme, height=260)
    figure.update_layout(margin={"t": 10, "b": 10})
    figure.update_xaxes(title=_("step"), gridcolor=theme.line, nticks=8)
    figure.update_yaxes(title={"text": f"{_('time of a step')} [{unit}]", "standoff": 12}, rangemode="tozero", gridcolor=theme.line, nticks=6)
    return figure


def course_alt(found: Audit) -> str:
    """The chart in a sentence."""
    planned = next((figure for figure in found.figures if figure.name == "step_time_s"), None)
    if planned is None:
        return "Times of steps."
    return f"Time of a step over {len(found.steps)} entries of the log: {planned.measured_text} when steady, {planned.planned_text} planned."
