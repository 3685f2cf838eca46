"""How right is it? Every published run that was predicted, beside its measurement."""

import streamlit as st

from planner.ui import accuracy, charts, frame, texts

current = frame.open_page("accuracy")
record = accuracy.load()
if record is None:
    st.title("Accuracy", anchor=False)
    st.info("This installation has no record of accuracy. `python -m planner.evidence.report` writes it.")
    st.stop()

heading = st.container()
quantity = accuracy.choose("Quantity", "accuracy_quantity", accuracy.QUANTITIES)
view = accuracy.view(record, quantity)
with heading:
    st.title(texts.plain(view.title), anchor=False)
    frame.show_stale(current)
    st.markdown(texts.plain(view.explanation))

with st.grid(4, min_column_width=150):
    for label, value, note in view.figures:
        st.metric(label, value, note, delta_color="off", delta_arrow="off", border=True)

with st.container(border=True):
    st.subheader("Predicted and measured", anchor=False, help=accuracy.CHART_HELP)
    dots = accuracy.dots(quantity, accuracy.choose("Colour by", "accuracy_colour", accuracy.COLOURS))
    figure = charts.predicted_and_measured(dots, frame.theme(), view.unit)
    frame.draw(figure, "accuracy_chart", charts.predicted_and_measured_alt(dots))

with st.container(border=True):
    st.subheader("Errors by class", anchor=False)
    grouping = accuracy.choose("Class", "accuracy_grouping", accuracy.GROUPINGS)
    st.dataframe(
        accuracy.table(quantity, grouping),
        hide_index=True,
        column_config=accuracy.columns(),
        placeholder="–",
        alt="Errors of the classes of runs",
    )
    st.caption(accuracy.TABLE_NOTE)

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
