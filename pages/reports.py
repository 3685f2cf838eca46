"""Something to send, attach or keep: the plan as a document."""

import base64

import streamlit as st

import planner.ui.loaded  # noqa: F401
from planner.advise import suggest
from planner.report import EXPORTERS, export
from planner.ui import frame, texts
from planner.ui.language import _

current = frame.open_page("reports")
st.title(_("Take the plan with you"), anchor=False)
frame.show_stale(current)
st.markdown(_(f"The same figures, intervals and sources as on the page: {frame.summary_line(current.estimate)}."))

with st.container(horizontal=True, vertical_alignment="bottom"):
    name = st.segmented_control(
        _("Format"),
        list(EXPORTERS),
        default="html",
        required=True,
        key="report_format",
        persist_state="session",
        format_func=lambda key: _(EXPORTERS[key].label),
        wrap=True,
    )
    exporter = EXPORTERS[name]
    helpful = suggest(current.run, current.estimate, current.profile)
    content = export(current.estimate, name, suggestions=helpful, run=current.run)
    file = f"{texts.file_name(current.estimate.details['model']['name'])}.{exporter.ending}"
    st.download_button(
        _("Download"),
        content,
        file,
        exporter.mime,
        key="report_download",
        icon=":material/download:",
        type="primary",
        on_click="ignore",
    )

with st.container(border=True):
    st.subheader(_("Preview"), anchor=False)
    if name in ("html", "pdf"):
        shown = content if name == "html" else export(current.estimate, "html", suggestions=helpful, run=current.run)
        page = base64.b64encode(shown).decode()
        st.iframe(f"data:text/html;base64,{page}", height=900, alt=_("The report"))
    else:
        text = content.decode()
        language = {"md": "markdown", "json": "json"}.get(exporter.ending)
        st.code(text[: texts.PREVIEW], language=language, height=700, wrap_lines=exporter.ending != "csv")
        if len(text) > texts.PREVIEW:
            st.caption(_("The preview ends here; the file holds all of it."))
