"""Beside a plan: the published runs nearest to it, how wrong the planner was on them, and whether that is close enough to trust."""

from __future__ import annotations

from typing import Any, Final

import streamlit as st

from planner import units
from planner.estimate.result import Estimate
from planner.evidence.nearest import NEAR, RELATED, Level, Measured, Support, support
from planner.evidence.score import measured_tokens
from planner.ui import texts
from planner.ui.accuracy_rows import label
from planner.ui.language import _

COUNT: Final = 5
HELP: Final = (
    "Published runs by distance: a factor of two in parameters counts 1, in GPUs 0.5, in tokens of a micro batch 0.25, another GPU 1 "
    "(another generation 2), another method 1.5, other software 1."
)
_BADGES: Final[dict[Level, tuple[str, str, str]]] = {
    "near": ("green", ":material/near_me:", "published runs are near"),
    "related": ("orange", ":material/social_distance:", "only related runs were published"),
    "none": ("red", ":material/help:", "nothing like it was published"),
}
_SENTENCES: Final[dict[Level, str]] = {
    "near": "Runs like this one were published, so that its interval is tested where it stands.",
    "related": "No published run is near in all respects: the interval comes from a wider class, and may be too narrow here.",
    "none": "No published run comes near this one. The figures follow from the model alone: do not rely on their intervals, measure a short run first.",
}


def badge(said: Support) -> str:
    """The verdict on the evidence as a badge in markdown."""
    colour, icon, words = _BADGES[said.level]
    text = f"{said.near} {words}" if said.level == "near" and said.near > 1 else "a published run is near" if said.level == "near" else words
    return f":{colour}-badge[{icon} {_(text)}]"


def show(e: Estimate, said: Support) -> None:
    """The section of the plan page."""
    st.subheader(_("Measured nearby"), anchor=False, help=_(HELP))
    st.markdown(f"{badge(said)} {_(_SENTENCES[said.level])}")
    st.dataframe(
        [line(run) for run in said.runs],
        hide_index=True,
        placeholder="–",
        column_config={
            "run": st.column_config.TextColumn(_("Run"), width="medium"),
            "distance": st.column_config.NumberColumn(_("Distance"), format="%.2f", help=_(f"Up to {NEAR:g} is near, beyond {RELATED:g} says little.")),
            "tokens": st.column_config.NumberColumn(_("Tokens/s per GPU"), format="%,.0f", help=_("As measured.")),
            "tokens_error": st.column_config.NumberColumn(_("We were off by"), format="%+.0f %%", help=_("Predicted over measured rate, less one; held out.")),
            "memory": st.column_config.NumberColumn(_("Peak [GiB]"), format="%.1f", help=_("As measured.")),
            "memory_error": st.column_config.NumberColumn(_("Off by"), format="%+.0f %%", help=_("Predicted over measured peak, less one; held out.")),
            "source": st.column_config.TextColumn(_("Published in"), width="medium"),
        },
        alt=_("Published runs nearest to this plan, and the error of the planner on each"),
    )
    st.caption(texts.plain(sentence(said)))


def line(run: Measured) -> dict[str, Any]:
    """One published run as a line of the table."""
    row = run.neighbour.row
    method = label("method", row.method or "full")
    return {
        "run": f"{row.model}, {method}, {row.gpus or 1} × {row.gpu or _('not stated')}",
        "distance": run.neighbour.distance,
        "tokens": measured_tokens(row) if "time" in row.target_set else None,
        "tokens_error": _error(run.tokens_ratio),
        "memory": row.peak_mem_gib if "memory" in row.target_set else None,
        "memory_error": _error(run.memory_ratio),
        "source": f"{row.source_group}: {row.source}",
    }


def _error(ratio: float | None) -> float | None:
    return None if ratio is None else 100 * (ratio - 1)


def sentence(said: Support) -> str:
    """How wrong the planner was on these runs, in words."""
    parts = []
    for name, ratios in (("speed", [r.tokens_ratio for r in said.runs]), ("peak memory", [r.memory_ratio for r in said.runs])):
        known = sorted(abs(ratio - 1) for ratio in ratios if ratio is not None)
        if known:
            parts.append(f"{name} by {units.format_percent(known[len(known) // 2], 2)} (worst {units.format_percent(known[-1], 2)} of {len(known)})")
    if not parts:
        return "None of these runs could be predicted."
    return f"On these runs the median error was: {' and '.join(parts)}. The errors are held out."


def of(e: Estimate) -> Support:
    """The evidence near a plan."""
    return support(e, COUNT)
