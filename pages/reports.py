"""Something to send, attach or keep: the plan as a document, as a lock, and as the files that start it."""

import base64

import streamlit as st

import planner.ui.loaded  # noqa: F401
from planner.errors import PlanError
from planner.report import EXPORTERS
from planner.ui import frame, handing, texts
from planner.ui.language import _

current = frame.open_page("reports")
st.title(_("Take the plan with you"), anchor=False)
frame.show_stale(current)
handing.show_note()
st.markdown(_(f"The same figures, intervals and sources as on the page: {frame.summary_line(current.estimate)}."))

name_of_file = texts.file_name(current.estimate.details["model"]["name"])
content: bytes | None = None
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
    try:
        content = handing.report_of(current, name)
        st.download_button(
            _("Download"),
            content,
            f"{name_of_file}.{exporter.ending}",
            exporter.mime,
            key="report_download",
            icon=":material/download:",
            type="primary",
            on_click="ignore",
        )
    except PlanError as error:  # a package that this format needs is not installed
        frame.show_error(error)
    st.download_button(
        "plan.lock", handing.lock_content(current), "plan.lock", "application/json", key="lock_download", icon=":material/lock:", on_click="ignore",
        help=_("Inputs, resolved values and what they stand on. `planner check plan.lock --max-cost 500 --deadline 24h` fails in CI where it no longer holds."),
    )  # fmt: skip

if content is not None:
    with st.container(border=True):
        st.subheader(_("Preview"), anchor=False)
        if name in ("html", "pdf", "xlsx"):
            shown = content if name == "html" else handing.report_of(current, "html")
            page = base64.b64encode(shown).decode()
            st.iframe(f"data:text/html;base64,{page}", height=900, alt=_("The report"))
        else:
            text = content.decode()
            language = {"md": "markdown", "json": "json"}.get(exporter.ending)
            st.code(text[: texts.PREVIEW], language=language, height=700, wrap_lines=exporter.ending != "csv")
            if len(text) > texts.PREVIEW:
                st.caption(_("The preview ends here; the file holds all of it."))

with st.container(border=True):
    handing.launch_section(current)

with st.container(border=True):
    st.subheader(_("Open a plan"), anchor=False)
    st.file_uploader(
        _("A plan.lock, a JSON report or a run file"), type=["lock", "json", "yaml", "yml"], key="handed_file", on_change=handing.open_file, max_upload_size=2
    )
    st.caption(_("It becomes the plan, with every value that it had; what has changed since is said. Undo is in the sidebar."))
