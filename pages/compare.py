"""Which GPU, method, precision and sharding should I take?"""

import streamlit as st

import planner.ui.loaded  # noqa: F401
from planner.catalog import accelerators
from planner.run import PRECISIONS
from planner.ui import charts, comparing, decision_charts, frame, handing, searching, texts
from planner.ui.address import CHOICES
from planner.ui.language import _

KEEP = "session"
current = frame.open_page("compare")
run, e, profile = current.run, current.estimate, current.profile
st.title(_("Compare, and choose"), anchor=False)
frame.show_stale(current)
st.markdown(_(f"**{_(comparing.THIS)}**: {frame.summary_line(e)}. Each choice below is combined with every other; an empty list keeps the plan's own value."))

names = [part.name for part in accelerators()]
with st.container(border=True):
    grid = st.grid(3, min_column_width=250)
    with grid.cell():
        gpus = st.multiselect(
            "GPUs", names, default=[n for n in comparing.GPUS if n in names], key="compare_gpus", persist_state=KEEP, placeholder=_("The plan's own")
        )
    with grid.cell():
        counts = st.multiselect(
            _("How many"), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024], key="compare_counts", persist_state=KEEP, placeholder=_("The plan's own"),
            help=_("The global batch is kept where it divides."),
        )  # fmt: skip
    with grid.cell():
        methods = st.multiselect(
            _("Methods"), list(CHOICES["method"]), key="compare_methods", persist_state=KEEP, placeholder=_("The plan's own"),
            format_func=lambda name: _(CHOICES["method"][name]),
        )  # fmt: skip
    with grid.cell():
        precisions = st.multiselect(_("Precisions"), list(PRECISIONS), key="compare_precisions", persist_state=KEEP, placeholder=_("The plan's own"))
    with grid.cell():
        shardings = st.multiselect(
            _("Sharding"), list(comparing.SHARDINGS), key="compare_shardings", persist_state=KEEP, placeholder=_("The plan's own"),
            format_func=lambda name: comparing.SHARDINGS[name],
        )  # fmt: skip
    with grid.cell():
        objective = st.segmented_control(
            _("Rank by"), ["time", "cost", "energy"], default="time", required=True, key="compare_objective", persist_state=KEEP,
            format_func=lambda name: _(name.capitalize()),
        )

chosen = comparing.Choices(tuple(gpus), tuple(counts), tuple(methods), tuple(precisions), tuple(shardings))
plans, left_out = comparing.alternatives(run, e.run, chosen)
stars = [comparing.THIS, *(plan.name for plan in plans)]
with st.container(horizontal=True, vertical_alignment="bottom"):
    if st.session_state.get("compare_baseline") not in stars:
        st.session_state["compare_baseline"] = comparing.THIS
    baseline = st.selectbox(
        _("★ Baseline"), stars, key="compare_baseline", width=380, format_func=_, help=_("Differences are to this plan, which has a ring in the chart.")
    )
found = comparing.table(run, e, plans, left_out, profile, baseline, objective)
if baseline not in found.runs:
    baseline = comparing.THIS
fitting = [row for row in found.rows if row.rank is not None]
rest = [row for row in found.rows if row.rank is None]
size, unit = comparing.time_unit([row.time for row in found.rows])
whole = all(row.estimate.total_time_s is not None for row in found.rows)
per = "" if whole else " of a sample"

if not found.rows:
    st.info(_("Choose a GPU, a number, a method, a precision or a sharding that the plan does not have."), title=_("Nothing to compare with yet"))
else:
    with st.container(border=True):
        st.subheader(_(f"{len(fitting)} of {len(found.rows)} fit or may fit"), anchor=False)
        if fitting:
            runs = [found.runs[row.name] for row in fitting]
            st.dataframe(
                comparing.lines(fitting, baseline, size), hide_index=True, placeholder="–", key="compare_table",
                column_config=comparing.columns(unit, whole) | {
                    "use": st.column_config.ButtonColumn(
                        "", type="tertiary", key="compare_use", on_click=comparing.use, args=("compare_use", runs), help=_("This row becomes the plan.")
                    ),
                },
                alt=_("Plans that fit or may fit, the best first, with differences to the baseline"),
            )  # fmt: skip
        if rest:
            st.table(
                {f":gray[{texts.plain(row.name)}]": f":gray[Does not fit: {texts.plain(comparing.reason(row))}]" for row in rest},
                border="horizontal", alt=_("Plans that do not fit, with the reason"),
            )  # fmt: skip
        for plan in found.refused:
            st.caption(_(f"{texts.plain(plan.name)} cannot be planned: {texts.plain(plan.problem)}."))
        ordered = [baseline, *(row.name for row in found.rows if row.name != baseline)]
        handing.comparison_button([(one, found.runs[one]) for one in ordered], profile, objective, "compare_report")
        if found.left_out:
            st.caption(_(f"{found.left_out} further combinations are left out: {comparing.MOST} at a time. Find the best, below, looks at all of them."))
    with st.container(border=True):
        st.subheader(_("Time and cost"), anchor=False, help=_("To the lower left is better. On the dotted line, nothing else is better in both."))
        theme: charts.Theme = frame.theme()
        line = comparing.pareto_line(found.rows)
        if any(row.time is not None and row.cost is not None for row in found.rows):
            figure = decision_charts.trade_off(found.rows, line, baseline, theme, size, unit + per)
            frame.draw(figure, "trade_off", decision_charts.trade_off_alt(found.rows, line))
            st.caption(texts.plain(decision_charts.trade_off_alt(found.rows, line)))
        missing = [row.name for row in found.rows if row.cost is None]
        if missing:
            st.caption(_(f"Without a known price, so not in the chart: {texts.plain(', '.join(missing))}."))

searching.show(current)
