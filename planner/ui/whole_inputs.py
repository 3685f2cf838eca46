"""Inputs of the whole run: what it takes beside its steps, own hardware, further lines of the bill, currency."""

from __future__ import annotations

import streamlit as st

from planner.ui import details, fields
from planner.ui.language import _

_TIME = ("startup", "warmup", "eval_every", "eval_tokens", "loader")
_FAILURES = ("checkpoint_every", "checkpoint_mode", "storage_speed", "failures", "restart")
_OWN = ("purchase", "lifetime", "utilization", "kwh_price", "upkeep")
_BILL = ("storage_tb", "storage_price", "egress_tb", "egress_price")


def draw() -> set[str]:
    """Draw the inputs of the whole run; says which were drawn. What means nothing for the plan is left out, unless it is said."""
    said = st.session_state
    own = details.said("purchase")
    with st.expander(_("The whole run"), icon=":material/timeline:", key="whole_expander"):
        st.caption(_("Empty is not counted, but for failures and their checkpoints."))
        drawn = _draw(_TIME)
        st.caption(_("**Failures and checkpoints**"))
        drawn |= _draw((*_FAILURES, *(("interruptions",) if said["spot"] or details.said("interruptions") else ())))
        st.caption("**Bill**")
        drawn |= _draw([key for key in _OWN if key == "purchase" or own or details.said(key)])
        drawn |= _draw([key for key in ("reserved_days",) if not (own or said["spot"]) or details.said(key)])
        drawn |= _draw(_BILL)
        drawn |= _draw(("currency", "per_usd"))
    return drawn


def _draw(keys: tuple[str, ...] | list[str]) -> set[str]:
    details.draw_all(fields.RUN[key] for key in keys)
    return set(keys)
