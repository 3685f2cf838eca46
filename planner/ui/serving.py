"""The section of the Plan page about serving the trained model: a side feature, worked out when it is asked for."""

from __future__ import annotations

import streamlit as st

from planner.device import DeviceProfile
from planner.errors import PlanError
from planner.estimate.serving import WEIGHTS, serving
from planner.report import serving as words
from planner.run import Run
from planner.ui import texts
from planner.ui.language import _

AS_TRAINED = "as trained"


def draw(run: Run, profile: DeviceProfile | None) -> None:
    """Inputs and answer."""
    st.subheader(_("Serve it on the same card"), anchor=False, help=_("A side feature: this app plans training. It serves decoders of text alone, on one GPU."))
    if not st.toggle(_("Work out serving"), key="serve_on"):
        return
    with st.container(horizontal=True, gap="small"):
        batch = st.number_input(_("Sequences at once"), 1, 2**20, value=1, step=1, key="serve_batch", width=150)
        context = st.number_input(_("Context [tokens]"), 2, 2**27, value=4096, step=1024, key="serve_context", width=150)
        weights = st.selectbox(_("Weights"), [AS_TRAINED, *WEIGHTS], key="serve_weights", width=150)
        merged = st.selectbox(_("Adapters"), ["merged", "beside the weights"], key="serve_adapters", width=180) == "merged"
    try:
        found = serving(run, profile, batch=batch, context=context, merged=merged, weights=None if weights == AS_TRAINED else weights)
    except PlanError as error:
        st.caption(f":orange[:material/info:] {texts.plain(str(error))}")
        return
    st.markdown(texts.plain(words.sentence(found)))
    rows = {texts.plain(label): texts.plain(text) for label, text in words.rows(found)}
    st.table(rows, border="horizontal", alt=_("Figures of serving"))
    st.markdown("\n".join(f"- {texts.plain(line)}" for line in found.notes))
