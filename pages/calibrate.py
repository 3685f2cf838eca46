"""How fast is your device really, and how far off were we?"""

import streamlit as st

import planner.ui.loaded  # noqa: F401
from planner.calibrate import jobs
from planner.calibrate.budget import BUDGETS
from planner.calibrate.jobs import ENDED
from planner.errors import PlanError
from planner.ui import frame, measuring, texts
from planner.ui.language import _

current = frame.open_page("calibrate")
st.title(_("Measure your device, correct the plan"), anchor=False)
frame.show_stale(current)
st.markdown(
    _("Microbenchmarks run in a process of their own, on one device, within the time that you give. "
    "What they find replaces the published curves in your plan. A plan needs none of this.")
)

found, problem = measuring.devices()
if problem:
    st.info(texts.plain(problem), title=_("Nothing can be measured here"), icon=":material/info:")
notes = [entry["note"] for entry in found if "note" in entry]
names = {entry["device"]: entry["name"] for entry in found}
job = None
if names:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            device = st.selectbox(_("Device"), list(names), key="calibrate_device", format_func=lambda d: f"{d} · {names[d]}", width=420)
            budget = st.segmented_control(
                _("Time"), list(BUDGETS), default="quick", required=True, key="calibrate_budget",
                format_func=lambda b: _(measuring.LABELS[b]),
            )  # fmt: skip
            job = next(jobs.of_device(device), None)
            status = job.status() if job is not None else None
            busy = status is not None and status.state not in ENDED
            lost = job if status is not None and status.state in ("lost", "failed") and status.cases else None
            label = "Go on" if lost is not None else "Measure"
            pressed = st.button(_(label), key="calibrate_start", type="primary", icon=":material/speed:", disabled=busy)
        for note in notes:
            st.caption(texts.plain(note))
        st.caption(_("The device works at full load meanwhile; anything else that runs on it makes the result wrong."))
    if pressed:
        try:
            measuring.begin(device, BUDGETS[budget], current.run, lost)
            st.rerun()
        except PlanError as error:
            frame.show_error(error)

    @st.fragment(run_every=1.0 if busy else None, key="calibrate_live")
    def live() -> None:
        """The job of this device, whoever started it."""
        if job is None:
            return
        now = job.status()
        if busy and now.state in ENDED:
            st.rerun()
        if now.state not in ENDED:
            with st.container(border=True):
                st.progress(min(1.0, now.share), text=_(f"{texts.plain(now.label)} · {now.cases} cases · {now.seconds:.0f} s"))
                if figures := measuring.readings(now):
                    with st.container(horizontal=True):
                        for figure in figures:
                            st.metric(_(figure.label), figure.value, border=True, chart_data=figure.history if len(figure.history) > 1 else None)
                if now.benchmarks:
                    st.dataframe(
                        measuring.per_benchmark(now), hide_index=True, height="content", alt=_("Cases measured of each benchmark"),
                        column_config={
                            "benchmark": st.column_config.TextColumn(_("Benchmark")),
                            "share": st.column_config.ProgressColumn(_("Measured"), format="%.0f %%", min_value=0.0, max_value=100.0),
                            "cases": st.column_config.TextColumn(_("Cases"), width="small"),
                        },
                    )  # fmt: skip
                    st.caption(_("The most telling cases come first; what the time does not reach is left to the laws."))
                for sentence in measuring.remedies(now.warnings):
                    st.markdown(f":orange[:material/warning:] {texts.plain(sentence)}")
                if st.button(_("Stop and keep what was measured"), key="calibrate_cancel", disabled=job.cancelled):
                    job.cancel()
        elif now.state in ("failed", "lost"):
            st.error(texts.plain(now.message), title=_("The measurement did not finish"), icon=":material/error:")
        elif (made := measuring.result_of(job)) is not None:
            early = _(" It was stopped early; what it had measured is used.") if now.state == "cancelled" else ""
            st.success(
                texts.plain(measuring.change(current.run, current.estimate, made) + early), title=_("Measured"), icon=":material/task_alt:"
            )

    live()
    if job is not None and not busy and job.profile.exists():
        for sentence in measuring.remedies(job.status().warnings):
            st.markdown(f":orange[:material/warning:] {texts.plain(sentence)}")

profiles = measuring.saved()
with st.container(border=True):
    st.subheader(_("Profiles"), anchor=False)
    good = [p for p in profiles if p.profile is not None]
    for bad in profiles:
        if bad.profile is None:
            st.warning(texts.plain(bad.problem), icon=":material/warning:")
    if not good:
        st.markdown(_("None yet. Measure a device above, or import a profile that `planner calibrate` wrote on another machine."))
    else:
        chosen = st.selectbox(_("Profile"), range(len(good)), key="calibrate_profile", format_func=lambda i: good[i].label)
        profile = good[chosen].profile
        st.caption(texts.plain(measuring.conditions(profile)))
        st.markdown(f"**{texts.plain(measuring.change(current.run, current.estimate, profile))}**")
        with st.container(horizontal=True):
            using = measuring.in_use() == profile
            if st.button(_("Stop using it" if using else "Plan with it"), key="calibrate_use", type="primary"):
                st.session_state[measuring.IN_USE] = None if using else profile
                st.rerun()
            st.download_button(
                _("Download"), profile.model_dump_json(indent=2), f"{texts.file_name(profile.name)}.json", "application/json",
                key="calibrate_download", icon=":material/download:", on_click="ignore",
            )  # fmt: skip
        st.dataframe(
            measuring.rates(profile), hide_index=True, placeholder="–", alt=_("Rates of matrix products, measured and as planned before"),
            column_config={
                "operation": st.column_config.TextColumn(_("Operation")),
                "before": st.column_config.NumberColumn(_("Before [TFLOP/s]"), format="%.3g"),
                "measured": st.column_config.NumberColumn(_("Measured [TFLOP/s]"), format="%.3g"),
                "ratio": st.column_config.NumberColumn(_("Measured / before"), format="percent"),
            },
        )  # fmt: skip
        st.dataframe(
            measuring.laws(profile), hide_index=True, placeholder="–", alt=_("Errors of the fitted laws"),
            column_config={
                "law": st.column_config.TextColumn(_("Law")),
                "median": st.column_config.NumberColumn(_("Median error"), format="percent"),
                "p90": st.column_config.NumberColumn(_("90 % of cases within"), format="percent"),
                "cases": st.column_config.NumberColumn(_("Cases")),
            },
        )  # fmt: skip
        st.caption(_("Each case is predicted from all others."))
    upload = st.file_uploader(_("Import a profile"), type=["json"], key="calibrate_upload", max_upload_size=4)
    if upload is not None and st.session_state.get("calibrate_uploaded") != upload.file_id:
        try:
            measuring.keep_upload(upload.name, upload.getvalue())
            st.session_state["calibrate_uploaded"] = upload.file_id
            st.rerun()
        except PlanError as error:
            frame.show_error(error)
with st.expander(_("On a machine without a browser")):
    st.code("python -m planner calibrate --device cuda:0 --budget standard --out profile.json", language="sh", wrap_lines=True)
