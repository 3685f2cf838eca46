"""How right is it? Every published run that was predicted, beside its measurement."""

import streamlit as st

import planner.ui.loaded  # noqa: F401
from planner.ui import accuracy, accuracy_rows, charts, frame, texts
from planner.ui.language import _

current = frame.open_page("accuracy")
record = accuracy.load()
if record is None:
    st.title(_("Accuracy"), anchor=False)
    st.info(_("This installation has no record of accuracy. `python -m planner.evidence.report` writes it."))
    st.stop()

heading = st.container()
quantity = accuracy.choose("Quantity", "accuracy_quantity", accuracy.QUANTITIES)
members = accuracy_rows.chosen(quantity, accuracy.filters(quantity))
view = accuracy.view(record, quantity, members)
with heading:
    st.title(texts.plain(view.title), anchor=False)
    frame.show_stale(current)
    st.markdown(texts.plain(view.explanation))

if view.figures:
    with st.grid(4, min_column_width=150):
        for label, value, note in view.figures:
            st.metric(_(label), value, _(note), delta_color="off", delta_arrow="off", border=True)

    with st.container(border=True):
        st.subheader(_("Predicted and measured"), anchor=False, help=_(accuracy.CHART_HELP))
        dots = accuracy_rows.dots(members, quantity, accuracy.choose("Colour by", "accuracy_colour", accuracy_rows.COLOURS))
        figure = charts.predicted_and_measured(dots, frame.theme(), view.unit)
        frame.draw(figure, "accuracy_chart", charts.predicted_and_measured_alt(dots))

    with st.container(border=True):
        st.subheader(_("Errors by class"), anchor=False)
        grouping = accuracy.choose("Class", "accuracy_grouping", accuracy_rows.GROUPINGS)
        st.dataframe(
            accuracy_rows.table(members, quantity, grouping),
            hide_index=True,
            column_config=accuracy.columns(),
            column_order=accuracy.TABLE_ORDER,
            placeholder="–",
            alt=_("Errors of the classes of runs"),
        )
        st.caption(_(accuracy.TABLE_NOTE))
else:
    st.info(_("No published run has all that was chosen. Take a choice back."))

with st.container(border=True):
    st.subheader(_("Furthest off"), anchor=False)
    st.dataframe(
        accuracy.worst(record, quantity),
        hide_index=True,
        column_config=accuracy.worst_columns(),
        column_order=accuracy.WORST_ORDER,
        placeholder="–",
        alt=_("Runs that are predicted worst"),
    )
    st.caption(_("One of each source and model. A run that the planner gets wrong stays in the record."))

with st.container(border=True):
    st.subheader(_("Not predicted"), anchor=False)
    st.markdown(texts.plain(accuracy.skipped_sentence(record)))
    with st.expander(_("Reasons"), key="accuracy_skipped", on_change="rerun") as fold:
        if fold.open:
            st.dataframe(accuracy.skipped(record), hide_index=True, alt=_("Why published runs were not predicted"))
