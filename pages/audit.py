"""How did it really go? Logs of a finished run beside its plan."""

import streamlit as st

import planner.ui.loaded  # noqa: F401
from planner.errors import PlanError
from planner.ui import audit_chart, auditing, frame, texts
from planner.ui.language import _

current = frame.open_page("audit")
st.title(_("How did it really go?"), anchor=False)
frame.show_stale(current)
st.markdown(_("Give the logs of a run that you planned: how far off the plan was, what explains it, and what to change."))

with st.container(border=True):
    uploads = st.file_uploader(_("Logs of one run"), accept_multiple_files=True, key="audit_logs", max_upload_size=auditing.MOST_MIB)
    pasted = st.text_area(
        _("or text from the console"), key="audit_pasted", max_chars=1_000_000, height=120,
        placeholder="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 3.91 GiB. GPU 0 has a total capacity of 79.25 GiB of which …",
    )  # fmt: skip
    st.caption(_("Recognised by content, whatever their names. Read on this server, never executed; only the answer is kept, and only when you ask for it."))

if (note := st.session_state.pop(auditing.NOTE, None)) is not None:
    kind, text = note
    (st.success if kind == "done" else st.warning)(texts.plain(text), icon=":material/info:")

if not uploads and not (pasted or "").strip():
    with st.expander(_("What can be read"), icon=":material/description:"):
        st.dataframe(
            auditing.formats(), hide_index=True, alt=_("Formats of logs that can be read"),
            column_config={
                "log": st.column_config.TextColumn(_("Log"), width="medium"),
                "source": st.column_config.TextColumn(_("As written by"), width="large"),
            },
        )  # fmt: skip
    st.caption(_("Larger logs, and folders, on the command line:"))
    st.code("python -m planner audit run.yaml out/ nvidia-smi.csv", language=None, wrap_lines=True)
    st.stop()

if current.error is not None:
    st.stop()
try:
    records = auditing.records(uploads or [], pasted or "")
    found = auditing.answer(current.run, records, current.profile)
except PlanError as error:
    frame.show_error(error)
    st.stop()

words, icon = auditing.title(found)
st.header(f"{icon} {_(words)}", anchor=False)
if found.shortage is not None:
    st.markdown(texts.plain(found.shortage.sentence))
    for one in found.shortage.causes:
        st.markdown(auditing.line(one))
if found.shortage is None or found.verdict != "unknown":
    st.markdown(f"{texts.plain(found.why)} {texts.plain(f'The plan stands on {found.device}, {found.basis}.')}")

if found.figures:
    st.dataframe(
        auditing.figures(found), hide_index=True, key="audit_figures", placeholder="–", alt=_("What was measured beside what was planned"),
        column_config={
            "figure": st.column_config.TextColumn(""),
            "measured": st.column_config.TextColumn(_("Measured")),
            "planned": st.column_config.TextColumn(_("Planned")),
            "off": st.column_config.TextColumn(_("Plan is off"), alignment="right"),
            "interval": st.column_config.TextColumn(_("Planned, 90 %")),
        },
    )  # fmt: skip
if found.steps:
    frame.draw(audit_chart.course(found, frame.theme()), "audit_course", audit_chart.course_alt(found))

seen = [*found.corrections, *(one for one in found.findings if one.status == "seen")]
tested = [one for one in found.findings if one.status != "seen"]
for heading, those in (("What the log shows", seen), ("What would explain it", [one for one in tested if one.status != "does not"])):
    if those:
        st.subheader(_(heading), anchor=False)
        for one in those:
            st.markdown(auditing.line(one))
if out := [one for one in tested if one.status == "does not"]:
    with st.expander(_(f"Tested and ruled out ({len(out)})")):
        for one in out:
            st.markdown(auditing.line(one))

if found.proposals:
    st.subheader(_("What to change"), anchor=False)
    for place, proposal in enumerate(found.proposals):
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{texts.plain(proposal.title)}.** {texts.plain(proposal.sentence)}")
            if proposal.change:
                st.button(
                    _("Apply"), key=f"audit_apply_{place}", on_click=auditing.apply_change, args=(found.ran, proposal.change), help=_("Undo is in the sidebar.")
                )

with st.container(horizontal=True, vertical_alignment="center"):
    st.button(_("Keep it"), key="audit_keep", type="primary", icon=":material/bookmark:", on_click=auditing.keep, args=(found, current.profile))
    st.download_button(
        _("Download"), found.model_dump_json(indent=2), f"{texts.file_name(found.model)}-audit.json", "application/json",
        key="audit_download", icon=":material/download:", on_click="ignore",
    )  # fmt: skip
st.caption(_("Keep: later plans of this run on this device stand on it, and it is found on the Saved page."))
for log in found.logs:
    said = " ".join([_(f"{log.entries:,} entries."), *(texts.plain(note) for note in log.notes)])
    st.caption(f"{texts.plain(log.source)}: {log.reader.replace('_', ' ')}, {said}")
