"""How do time, memory and cost move when one thing changes, and what is the most that fits?"""

import streamlit as st

import planner.ui.loaded  # noqa: F401
from planner import units
from planner.estimate.verdict import FITS
from planner.ui import asking, comparing, decision_charts, estimates, exploring, frame, texts
from planner.ui.language import _

current = frame.open_page("explore")
run, e, profile, theme = current.run, current.estimate, current.profile, frame.theme()
st.title(_("Change one thing, and see"), anchor=False)
frame.show_stale(current)
st.markdown(_(f"From {frame.summary_line(e)}. The ring is your plan; hollow and grey does not fit."))

with st.container(border=True):
    asking.show(current)

with st.container(border=True):
    st.subheader(_("One input"), anchor=False, help=_("The global batch is kept as nearly as it divides when the micro batch or the number of GPUs changes."))
    known = exploring.knobs(e.run)
    if st.session_state.get("sweep") not in known:
        st.session_state["sweep"] = known[0]
    name = st.segmented_control(
        _("Input"), known, key="sweep", required=True, format_func=lambda n: _(exploring.KNOBS[n].label), label_visibility="collapsed", persist_state="session"
    )
    knob = exploring.KNOBS[name]
    points = estimates.remembered(f"sweep {name}", run, profile, lambda: exploring.swept(name, run, e.run, profile))
    labels = [units.format_integer(p.value) for p in points]
    here = next((i for i, p in enumerate(points) if p.value == knob.value(e.run)), None)
    times, fit = exploring.figures(points, "time"), exploring.fits(points)
    size, unit = comparing.time_unit(times)
    per = "" if e.total_time_s is not None else " of a sample"
    usable = None if e.usable_memory_bytes is None else e.usable_memory_bytes / units.GIB
    columns = (
        (f"Time{per}", [None if t is None else t / size for t in times], unit, None),
        ("Memory per GPU", [None if m is None else m / units.GIB for m in exploring.figures(points, "reserved")], "GiB", usable),
        (f"Cost{per}", exploring.figures(points, "cost"), "USD", None),
    )
    grid = st.grid(3, min_column_width=280)
    for title, values, of, limit in columns:
        with grid.cell():
            by = f"by {knob.label.lower() if name != 'gpus' else 'GPUs'}"
            st.markdown(f"**{_(title)}** {_(by)}")
            if any(value is not None for value in values):
                figure = decision_charts.sweep(labels, values, fit, here, theme, of, limit)
                frame.draw(figure, f"sweep_{title.split()[0]}", f"{_(title)} {_(by)}. {_(exploring.sentence(points, knob.unit))}")
            else:
                st.caption(_("Not known: it needs a price and an amount of data."))
    st.caption(texts.plain(exploring.sentence(points, knob.unit)))
    for line in exploring.refused(points):
        st.caption(texts.plain(line))

left, right = st.columns(2)
with left.container(border=True, height="stretch"):
    st.subheader(_("The price of one step"), anchor=False, help=_("Each input alone, one step up."))
    marginal = estimates.remembered("marginal", run, profile, lambda: exploring.marginal(run, e, profile))
    st.dataframe(
        [
            {
                "change": _(price.label),
                "time": None if price.time is None else price.time / size,
                "memory": price.memory / units.GIB,
                "cost": price.cost,
                "carbon": price.carbon,
                "fits": _(FITS[price.fits]),
            }
            for price in marginal
        ],
        hide_index=True, placeholder="–", key="marginal_table", alt=_("What one step of each input does to time, memory, cost and emissions"),
        column_config={
            "change": st.column_config.TextColumn(_("Change"), width="medium"),
            "time": st.column_config.NumberColumn(_(f"Δ time [{unit}]"), format="%+.3g"),
            "memory": st.column_config.NumberColumn(_("Δ memory [GiB]"), format="%+.3g"),
            "cost": st.column_config.NumberColumn(_("Δ cost [$]"), format="%+.3g"),
            "carbon": st.column_config.NumberColumn(_("Δ CO₂e [kg]"), format="%+.3g"),
            "fits": st.column_config.TextColumn(_("Then it")),
        },
    )  # fmt: skip
with right.container(border=True, height="stretch"):
    st.subheader(_("What moves the answer most"), anchor=False, help=_("Each assumption alone is put to its two ends; the line is your plan."))
    figure_of = "cost" if e.cost_usd is not None else "time"
    moved = estimates.remembered(f"swings {figure_of}", run, profile, lambda: exploring.swings(run, e, profile, figure_of))
    if moved:
        scale, what = (1.0, "cost [USD]") if figure_of == "cost" else (size, f"time [{unit}]")
        now = (e.cost_usd if figure_of == "cost" else e.total_time_s) or 0.0
        names = [swing.label for swing in moved]
        alt = f"{moved[0].label} ({moved[0].words}) moves the {figure_of} most."
        tornado = decision_charts.bars(names, [s.low / scale for s in moved], [s.high / scale for s in moved], now / scale, theme, what)
        frame.draw(tornado, "tornado", alt)
        st.caption(texts.plain(alt) + " " + texts.plain("; ".join(f"{s.label}: {s.words}" for s in moved)) + ".")
    else:
        st.caption(_("Without an amount of data there is no total to move."))

with st.container(border=True):
    st.subheader(_("Micro batch and sequence length"), anchor=False, help=_("The frame is your plan. The global batch is kept as nearly as it divides."))
    found = estimates.remembered("map", run, profile, lambda: exploring.mapped(run, e.run, profile))
    if found is None:
        st.caption(_("This model has no sequence length to vary."))
    else:
        known_times = [t for row, of in zip(found.cells, found.seconds, strict=True) for one, t in zip(row, of, strict=True) if exploring.may_fit(one)]
        map_size, map_unit = comparing.time_unit(known_times)
        micros, lengths = ([units.format_integer(n) for n in numbers] for numbers in (found.micros, found.lengths))
        chart = decision_charts.heat_map(micros, lengths, found.cells, found.here, theme, found.seconds, map_size)
        what = f"{_('Time' + (per or ' of the whole run'))} [{map_unit}]"
        st.caption(_(f"{what}; in grey cells the memory in GiB that it would take (– is more than twice what there is); ? is too close to call."))
        frame.draw(chart, "map", exploring.frontier(found))
        st.caption(texts.plain(exploring.frontier(found)))
