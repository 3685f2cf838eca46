"""The whole run on the Plan page: time and cost by line, what stands behind them, how old the price is."""

from __future__ import annotations

import datetime as dt
from typing import Final

import streamlit as st

from planner import units
from planner.estimate.result import Estimate
from planner.summary import bill_parts, course_facts, course_parts, share_text
from planner.ui import explain, texts
from planner.ui.language import _

HELP: Final = (
    "What the run takes beside its steps. Failures and their checkpoints are always expected; start-up, evaluation, data loading, own hardware "
    "and further costs count once they are given in the sidebar under The whole run."
)


def show(e: Estimate) -> None:
    """Time and cost by line, side by side, and the arithmetic behind them."""
    st.subheader(_("The whole run"), anchor=False, help=_(HELP))
    left, middle, right = st.columns([4, 3, 4])
    rows = {p.label: f"{units.format_seconds(p.value)} :gray[· {_share(p.share)}]" for p in course_parts(e)}
    with left:
        st.table({"**Time**": f"**{units.format_seconds(e.total_time_s)}**", **rows}, border="horizontal", alt=_("Time of the whole run by part"))
    with middle:
        if e.cost_usd is None:
            st.caption(_("No cost: no price is known. Give your own under Parallelism, price, energy, or what own hardware cost."))
        else:
            lines = {p.label: f"{texts.plain(units.format_usd(p.value))} :gray[· {_share(p.share)}]" for p in bill_parts(e)}
            total = texts.plain(units.format_usd(e.cost_usd))
            st.table({"**Cost**": f"**{total}**", **lines}, border="horizontal", alt=_("Cost of the whole run by line"))
    with right:
        st.table({texts.plain(label): texts.plain(text) for label, text in course_facts(e)}, border="horizontal", alt=_("Figures of the whole run"))
    skipped = next((line for line in e.assumptions if line.startswith("Not in the total time")), "")
    if skipped:
        st.caption(texts.plain(skipped.replace("until whole_run says", "until the sidebar says")))
    explain.arithmetic(e, "whole", ("run", "cost", "figures/time_in_steps", "figures/checkpoint", "figures/checkpoint_write", "figures/goodput"))


def _share(share: float) -> str:
    """A share that stays on one line."""
    return share_text(share).replace(" ", "\u00a0")


def price_age(e: Estimate, today: dt.date | None = None) -> str:
    """How old the price is, as the end of a caption; empty for a price of one's own."""
    date = (e.details.get("price") or {}).get("date")
    if not date:
        return ""
    days = ((today or dt.date.today()) - dt.date.fromisoformat(date)).days
    age = "of today" if days <= 0 else f"{days} days old" if days < 60 else f"{days // 30} months old"
    return f" · :orange[{_(age)}]" if days > 180 else f" · {_(age)}"
