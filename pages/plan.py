"""Does this run fit, how long, how much, and what limits it?"""

import streamlit as st

import planner.ui.loaded  # noqa: F401
from planner.advise import delta_texts, suggest
from planner.report import pipeline
from planner.summary import facts, key_figures, verdict
from planner.ui import changes, charts, explain, frame, nearby, pipeline_charts, serving, texts, whole_run
from planner.ui.language import _

current = frame.open_page("plan")
e, theme = current.estimate, frame.theme()
said = verdict(e)
evidence = nearby.of(e)

if current.error is None:
    icon, colour = texts.STATES[said.state]
    st.title(f":{colour}[{icon}] {texts.plain(said.sentence)}", anchor=False)
else:
    st.title(texts.error_title(current.error), anchor=False)
    frame.show_stale(current)
    st.subheader(texts.plain(said.sentence), anchor=False)
st.markdown(f"{explain.headline(e)} {nearby.badge(evidence)}")

grid = st.grid(4, min_column_width=170)
for figure in key_figures(e):
    with grid.cell(), st.container(border=True, height="stretch", gap="xsmall"):
        st.metric(
            explain.figure_label(figure),
            explain.figure_value(figure),
            figure.chip or None,
            delta_color="off",
            delta_arrow="off",
        )
        st.caption(explain.figure_note(figure) + (whole_run.price_age(e) if figure.name == "cost" else ""))

left, right = st.columns([3, 2])
with left.container(border=True):
    st.subheader(_("Memory per GPU" if e.run.hardware.gpus > 1 else "Memory"), anchor=False, help=_(explain.MEMORY_HELP))
    frame.draw(charts.memory_bar(e, theme), "memory_bar", charts.memory_bar_alt(e))
    for line in explain.memory_notes(e):
        st.caption(texts.plain(line))
    explain.arithmetic(e, "memory", ("memory", "host", "reserved", "figures/usable_memory"))
with left.container(border=True, height="stretch"):
    st.subheader(_("What limits it"), anchor=False)
    for sentence in filter(None, (e.limited_by, "" if e.fits else e.fits_reason)):
        st.markdown(texts.plain(sentence))
    for warning in e.warnings:
        st.markdown(f":orange[:material/warning:] {texts.plain(warning)}")
with right.container(border=True, height="stretch"):
    st.subheader(_("Where a step goes"), anchor=False, help=_(explain.STEP_HELP))
    by = explain.step_view()
    frame.draw(charts.step_bars(e, theme, by), "step_bars", charts.step_bars_alt(e, by))
    explain.arithmetic(e, "time", ("time", "figures/mfu", "figures/tokens_per_s"))

help_slot = st.container(border=True)

with st.container(border=True):
    st.subheader(_("Memory over one step"), anchor=False, help=_(explain.CURVE_HELP))
    frame.draw(charts.memory_curve(e, theme), "memory_curve", charts.memory_curve_alt(e))
    st.caption(_(f"Live tensors of the fullest GPU. The peak is in {texts.plain(e.peak_moment)}."))

if (line := pipeline.timeline_of(e)) is not None:
    with st.container(border=True):
        st.subheader(_("Pipeline"), anchor=False, help=_(explain.PIPELINE_HELP))
        frame.draw(pipeline_charts.timeline(line, theme), "timeline", pipeline.sentence(line))
        st.caption(texts.plain(pipeline.sentence(line)))
        frame.draw(pipeline_charts.stage_memory(e, theme), "stage_memory", pipeline.stages_sentence(e))
        st.caption(texts.plain(pipeline.stages_sentence(e)))

if e.total_time_s is not None:
    with st.container(border=True):
        whole_run.show(e)

left, right = st.columns([2, 3])
with left.container(border=True, height="stretch"):
    st.subheader(_("In numbers"), anchor=False)
    st.table(
        {texts.plain(label): texts.plain(text) for label, text in facts(e)},
        border="horizontal",
        alt=_("Further figures of the plan"),
    )
    explain.arithmetic(
        e, "work", ("parameters", "flops", "energy", "carbon", "figures/steps", "figures/time_in_steps")
    )
with right.container(border=True, height="stretch"):
    st.subheader(_("Assumed, and left out"), anchor=False)
    st.markdown("\n".join(f"- {texts.plain(line)}" for line in e.assumptions))
    st.caption(texts.plain(e.interval_note))

with st.container(border=True):
    nearby.show(e, evidence)

with st.container(border=True):
    serving.draw(current.run, current.profile)

with help_slot:
    st.subheader(_("What would help"), anchor=False, icon=":material/lightbulb:")
    suggestions = suggest(current.run, e, current.profile)
    if not suggestions:
        st.markdown(
            _("No single change makes this run fit." if e.fits is not True else "No single change saves time or money.")
        )
    for i, suggestion in enumerate(suggestions):
        with st.container(
            horizontal=True,
            vertical_alignment="center",
            horizontal_alignment="distribute",
            gap="small",
            key=f"suggestion_{i}",
        ):
            st.markdown(texts.plain(suggestion.title), width=360)
            with st.container(horizontal=True, gap="xsmall", width=430):
                for name, text in zip(("time", "memory", "cost"), delta_texts(suggestion), strict=True):
                    st.markdown(explain.delta(name, text), width=132)
            st.button(
                _("Apply"),
                key=f"apply_{i}",
                on_click=changes.apply,
                args=(current.run, suggestion.change),
                help=_("Undo is in the sidebar."),
            )
    if suggestions:
        st.caption(_("Each is this run with one change, estimated anew. Time and cost are those of the whole run."))
