"""How is this computed, from which equations and sources, with the numbers of the current plan."""

import streamlit as st

import planner.ui.loaded  # noqa: F401
from planner.ui import frame, method
from planner.ui.language import _

current = frame.open_page("method")
st.title(_("How it is computed"), anchor=False)
frame.show_stale(current)
st.markdown(_(f"The equations carry the numbers of the plan in the sidebar: {frame.summary_line(current.estimate)}."))

for section in method.sections(current.estimate):
    with st.container(border=True):
        st.subheader(_(section.title), anchor=False)
        for block in section.blocks:
            if isinstance(block, dict):
                st.table({_(label): _(text) for label, text in block.items()}, border="horizontal", alt=_(section.title))
            elif block.startswith("$$"):
                st.latex(block.strip("$"))
            else:
                st.markdown(block)
