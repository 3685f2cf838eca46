"""What was saved: find it, open it, compare it."""

import streamlit as st

import planner.ui.loaded  # noqa: F401
from planner.errors import PlanError
from planner.ui import comparing, frame, saving, texts
from planner.ui.language import _

current = frame.open_page("saved")
st.title(_("Saved work"), anchor=False)
frame.show_stale(current)

try:
    store = saving.store()
    saving.gather()
    tags = store.tags()
except PlanError as error:
    frame.show_error(error)
    st.stop()

if (note := st.session_state.pop(saving.NOTE, None)) is not None:
    said, changed = note
    undo = st.session_state.get(saving.UNDO)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info("\n".join([texts.plain(said), *(f"- {texts.plain(line)}" for line in changed)]), icon=":material/info:")
        if undo:
            st.button(_("Undo"), key="saved_undo_button", icon=":material/undo:", on_click=saving.restore, args=(undo,))

with st.container(horizontal=True, vertical_alignment="bottom"):
    words = st.text_input(_("Find"), key="saved_words", placeholder=_("Name, tag, model, GPU, method"), icon=":material/search:", max_chars=200)
    kind = st.segmented_control(_("Kind"), list(saving.KIND_LABELS), key="saved_kind", format_func=lambda name: _(saving.KIND_LABELS[name]))
    wanted = st.multiselect(_("Tags"), list(tags), key="saved_wanted", format_func=lambda tag: f"{tag} ({tags.get(tag, 0)})", placeholder=_("Any"), width=220)
    gone = st.toggle(_("Deleted"), key="saved_gone", help=_("What was deleted in the last 30 days."))

try:
    found = store.find(words, kind=kind, tags=[tag for tag in wanted if tag in tags], deleted=gone)
except PlanError as error:
    frame.show_error(error)
    st.stop()

if not found:
    if words or kind or wanted or gone:
        st.info(_("Nothing that is saved matches. Take a word, the kind or a tag away."), icon=":material/search_off:")
    else:
        st.info(
            _("Save plan, at the end of the sidebar, keeps the plan that you see. It will stand here."),
            title=_("Nothing is saved yet"), icon=":material/bookmark:",
        )  # fmt: skip
    st.caption(_(f"Saved work stands in {texts.plain(store.where)}."))
    st.stop()

event = st.dataframe(
    saving.rows(found), hide_index=True, key=f"saved_list_{len(found)}_{gone}", on_select="rerun", selection_mode="multi-row", placeholder="–",
    column_config={
        "name": st.column_config.TextColumn(_("Name"), width="medium"),
        "kind": st.column_config.TextColumn(_("Kind"), width="small"),
        "verdict": st.column_config.TextColumn(_("Verdict")),
        "time": st.column_config.TextColumn(_("Time to train")),
        "cost": st.column_config.NumberColumn(_("Cost [$]"), format="%.2f"),
        "memory": st.column_config.NumberColumn(_("Memory [GiB]"), format="%.1f"),
        "tags": st.column_config.ListColumn(_("Tags")),
        "changed": st.column_config.DatetimeColumn(_("Changed"), format="YYYY-MM-DD HH:mm"),
        "revision": st.column_config.NumberColumn(_("Revision"), width="small"),
    },
    alt=_("What is saved, the last changed first; choose rows to open, compare, tag or delete"),
)  # fmt: skip
chosen = [found[i] for i in event.selection.rows if i < len(found)]
plans = [one for one in chosen if one.kind == "plan"]
if not chosen:
    st.caption(_(f"Choose one row to open, name or tag it, several to compare or delete. Saved work stands in {texts.plain(store.where)}."))
    st.stop()

if gone:
    st.button(_("Bring back"), key="saved_back", type="primary", icon=":material/undo:", on_click=saving.restore, args=([c.id for c in chosen],))
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom"):
    if len(chosen) == 1:
        one = chosen[0]
        if plans:
            st.button(_("Open"), key="saved_open", type="primary", icon=":material/open_in_new:", on_click=saving.open_plan, args=(one.id,))
            if current.error is None and not saving.same_as_now(one, current.run):
                st.button(
                    _("Replace by the present plan"), key="saved_replace", icon=":material/save:", help=_("What it was stays as an earlier revision."),
                    on_click=saving.overwrite, args=(one.id, one.name, current.run, current.estimate),
                )  # fmt: skip
        if one.kind == "log":
            st.button(_("Plan it again"), key="saved_again", type="primary", icon=":material/open_in_new:", on_click=saving.open_log, args=(one.id,))
        if one.kind == "profile":
            st.button(_("Plan on it"), key="saved_use", type="primary", icon=":material/speed:", on_click=saving.use_profile, args=(one.id,))
        with st.popover(_("Name and tags"), icon=":material/sell:"):
            st.text_input(_("Name"), one.name, key=f"saved_name_{one.id}", max_chars=200)
            st.text_input(_("Tags"), ", ".join(one.tags), key=f"saved_tags_{one.id}", max_chars=1500)
            st.button(_("Change"), key="saved_describe", on_click=saving.describe, args=(one.id,))
        st.download_button(
            _("Download"), saving.as_file(one.id), f"{texts.file_name(one.name)}.json", "application/json",
            key="saved_download", icon=":material/download:", on_click="ignore",
        )  # fmt: skip
    many = f" {len(chosen)}" if len(chosen) > 1 else ""
    st.button(_("Delete") + many, key="saved_delete", icon=":material/delete:", on_click=saving.delete, args=([c.id for c in chosen],))

if len(plans) > 1:
    ranked, problems = saving.compared(plans)
    with st.container(border=True):
        st.subheader(_("Side by side, as estimated now"), anchor=False)
        if ranked:
            size, unit = comparing.time_unit([row.time for row in ranked])
            whole = all(row.estimate.total_time_s is not None for row in ranked)
            st.dataframe(
                comparing.lines(ranked, ranked[0].name, size), hide_index=True, key="saved_compare", placeholder="–",
                column_order=("rank", "plan", "time", "cost", "memory", "free", "energy", "fits", "efficient"),
                column_config=comparing.columns(unit, whole),
                alt=_("The chosen plans, ranked by time"),
            )  # fmt: skip
        for problem in problems:
            st.caption(texts.plain(problem))
