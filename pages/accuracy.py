"""How right is it? Every published run that was predicted, beside its measurement."""

import streamlit as st

from planner.ui import accuracy, accuracy_rows, charts, frame, texts

current = frame.open_page("accuracy")
record = accuracy.load()
if record is None:
    st.title("Accuracy", anchor=False)
    st.info("This installation has no record of accuracy. `python -m planner.evidence.report` writes it.")
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
            st.metric(label, value, note, delta_color="off", delta_arrow="off", border=True)

    with st.container(border=True):
        st.subheader("Predicted and measured", anchor=False, help=accuracy.CHART_HELP)
        dots = accuracy_rows.dots(members, quantity, accuracy.choose("Colour by", "accuracy_colour", accuracy_rows.COLOURS))
        figure = charts.predicted_and_measured(dots, frame.theme(), view.unit)
        frame.draw(figure, "accuracy_chart", charts.predicted_and_measured_alt(dots))

    with st.container(border=True):
        st.subheader("Errors by class", anchor=False)
        grouping = accuracy.choose("Class", "accuracy_grouping", accuracy_rows.GROUPINGS)
        st.dataframe(
            accuracy_rows.table(members, quantity, grouping),
            hide_index=True,
            column_config=accuracy.columns(),
            column_order=accuracy.TABLE_ORDER,
            placeholder="–",
            alt="Errors of the classes of runs",
        )
        st.caption(accuracy.TABLE_NOTE)
else:
    st.info("No published run has all that was chosen. Take a choice back.")

with st.container(border=True):
    st.subheader("Furthest off", anchor=False)
    st.dataframe(
        accuracy.worst(record, quantity),
        hide_index=True,
        column_config=accuracy.worst_columns(),
        column_order=accuracy.WORST_ORDER,
        placeholder="–",
        alt="Runs that are predicted worst",
    )
    st.caption("One of each source and model. A run that the planner gets wrong stays in the record.")

with st.container(border=True):
    st.subheader("Not predicted", anchor=False)
    st.markdown(texts.plain(accuracy.skipped_sentence(record)))
    with st.expander("Reasons", key="accuracy_skipped", on_change="rerun") as fold:
        if fold.open:
            st.dataframe(accuracy.skipped(record), hide_index=True, alt="Why published runs were not predicted")
