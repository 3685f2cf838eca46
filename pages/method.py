"""How is this computed, from which equations and sources, with the numbers of the current plan."""

import streamlit as st

from planner.ui import frame, method

current = frame.open_page("method")
st.title("How it is computed", anchor=False)
frame.show_stale(current)
st.markdown(f"The equations carry the numbers of the plan in the sidebar: {frame.summary_line(current.estimate)}.")

for section in method.sections(current.estimate):
    with st.container(border=True):
        st.subheader(section.title)
        for block in section.blocks:
            if isinstance(block, dict):
                st.table(block, border="horizontal", alt=section.title)
            elif block.startswith("$$"):
                st.latex(block.strip("$"))
            else:
                st.markdown(block)
