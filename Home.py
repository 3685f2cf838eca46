"""The app: router, sidebar, and the plan that every page shows. Start it with `streamlit run Home.py`."""

import streamlit as st

import planner.ui.loaded  # noqa: F401
from planner.ui import frame, inputs, language, login, saving

st.set_page_config(page_title="Plumbline", page_icon=frame.ICON, layout="wide", initial_sidebar_state=360)
language.begin()
login.require()
pages = frame.pages()
page = st.navigation(list(pages.values()), position="top")
frame.forward(pages)
frame.read_link(page)
frame.check_address(page)
with st.sidebar:
    frame.choose_language()
    said = inputs.sidebar()
    current = frame.compute(said)
    frame.explain_inputs(said, current)
    frame.show_profile(current)
    frame.share(current)
    saving.save_button(current.run, current.estimate, current.error is not None)
frame.readable()
frame.link_remarks()
frame.run_page(page)
