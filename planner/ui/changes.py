"""Changes of many inputs at once: a preset, a suggestion, a reset, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from planner.advise import apply as apply_change
from planner.run import Run
from planner.ui import state, texts


def set_values(values: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> None:
    """Write the values of widgets, before they are drawn or in a callback; what they held can be brought back with `undo`."""
    now = {key: st.session_state[key] for key in state.defaults() if key in st.session_state}
    if now:
        st.session_state["before"] = (now, st.session_state.get("config_text", ""))
    for key, value in values.items():
        st.session_state[key] = value
    if config is not None:
        st.session_state["config_text"] = state.config_text(config)


def write_again() -> None:
    """Write every widget's own value, so that the address holds it by its label in another language."""
    for key in state.defaults():
        if key in st.session_state:
            st.session_state[key] = st.session_state[key]


def set_run(run: Run) -> None:
    """Write a run into the widgets."""
    set_values(*state.values_of(run))


def undo() -> None:
    """Bring back what the widgets held before the last preset, link or suggestion."""
    values, text = st.session_state.pop("before", ({}, ""))
    for key, value in values.items():
        st.session_state[key] = value
    st.session_state["config_text"] = text


def apply_preset() -> None:
    """Write the chosen preset into the widgets, and let its button go."""
    name = st.session_state.get("preset")
    if name in texts.PRESETS:
        set_values(state.defaults() | texts.PRESETS[name])
    st.session_state["preset"] = None


def apply(run: Run, change: Mapping[str, Any]) -> None:
    """Write a run with a suggested change into the widgets."""
    set_run(apply_change(run, change))
