"""Questions asked backwards, on the Explore page: each answer is a proposal that can be applied."""

from __future__ import annotations

from typing import Final

import streamlit as st

from planner.device import DeviceProfile
from planner.errors import PlanError
from planner.run import Run
from planner.search.backwards import Backwards, Proposal, seconds_until
from planner.ui import changes, estimates, exploring, frame, texts
from planner.ui.language import _

QUESTIONS: Final = {
    "largest_micro_batch": "Largest micro batch",
    "longest_context": "Longest context",
    "largest_rank": "Largest rank",
    "fewest_gpus": "Fewest GPUs",
    "smallest_gpu": "Smallest GPU",
    "largest_model": "Largest model",
    "by_deadline": "GPUs for a deadline",
    "under_budget": "GPUs for a budget",
}
FIRST: Final = ("largest_micro_batch", "fewest_gpus")
"""Asked before anything is chosen: their answers take few estimates."""


@st.cache_resource(max_entries=500, show_spinner="Trying …")
def _answer(key: str, device: str, question: str, limit: float | None, _run: Run, _profile: DeviceProfile | None) -> Proposal | PlanError:
    try:
        asked = Backwards(_run, _profile)
        found: Proposal = getattr(asked, question)(*(() if limit is None else (limit,)))
    except PlanError as error:
        return error
    if found.estimate is None:
        return found
    slim = found.estimate.model_copy(update={"terms": (), "memory_curve": ()})
    return Proposal(found.question, found.change, slim, found.text)


def answer(question: str, run: Run, profile: DeviceProfile | None, limit: float | None = None) -> Proposal | PlanError:
    """The answer to a question, worked out once. limit: the deadline [s] or the budget [USD]."""
    return _answer(estimates.run_key(run), estimates.profile_key(profile), question, limit, run, profile)


def show(current: frame.Current) -> None:
    """The section of the page."""
    st.subheader(_("Ask backwards"), anchor=False, icon=":material/undo:", help=_("What fits is what fits with its whole 90 % interval."))
    asked = st.pills(
        _("Questions"), list(QUESTIONS), selection_mode="multi", default=list(FIRST), key="ask", format_func=lambda name: _(QUESTIONS[name]),
        persist_state="session", label_visibility="collapsed",
    )  # fmt: skip
    for question in (name for name in QUESTIONS if name in asked):
        limit: float | None = None
        try:
            if question == "by_deadline":
                text = st.text_input(_("Deadline"), "24h", key="ask_deadline", persist_state="session", width=280, help="24h, Friday 18:00, 2026-12-01 09:00")
                limit = _minutes(seconds_until(text))
            elif question == "under_budget":
                limit = st.number_input(_("Budget [USD]"), 0.01, None, 500.0, key="ask_budget", persist_state="session", width=280)
        except PlanError as error:
            frame.show_error(error)
            continue
        found = answer(question, current.run, current.profile, limit)
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", gap="small", key=f"asked_{question}"):
            if isinstance(found, PlanError):
                st.markdown(f"**{_(QUESTIONS[question])}**  \n{texts.plain(found)}", width=620)
                continue
            st.markdown(f"**{_(QUESTIONS[question])}**  \n{texts.plain(found.text)}{_effect(found, current)}", width=620)
            if found.estimate is not None and found.estimate.run == current.estimate.run:
                st.markdown(f":gray[{_('your plan')}]", width="content")
            elif found.change:
                st.button(_("Apply"), key=f"ask_apply_{question}", on_click=changes.apply, args=(current.run, found.change), help=_("Undo is in the sidebar."))


def _minutes(seconds: float) -> float:
    """Whole minutes, so that a deadline by the clock is asked again only when it is nearer [s]."""
    return max(1.0, seconds // 60 * 60) if seconds >= 60 else seconds


def _effect(found: Proposal, current: frame.Current) -> str:
    """What the proposal does to the figures, in grey."""
    if found.estimate is None:
        return ""
    return f"  \n:gray[{texts.plain(exploring.figures_text(found.estimate))}]"
