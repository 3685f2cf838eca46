"""How right is it? Every published run that was predicted, beside its measurement."""

import streamlit as st

from planner.ui import accuracy, charts, frame, texts

current = frame.open_page("accuracy")
record = accuracy.load()
if record is None:
    st.title("Accuracy", anchor=False)
    st.info("This installation has no record of accuracy. `python -m planner.evidence.report` writes it.")
    st.stop()

quantity = st.session_state.get("accuracy_quantity", "tokens")
view = accuracy.view(record, quantity)
st.title(texts.plain(view.title), anchor=False)
frame.show_stale(current)
st.markdown(texts.plain(view.explanation))
st.segmented_control("Quantity", list(accuracy.QUANTITIES), default="tokens", required=True, key="accuracy_quantity", format_func=accuracy.QUANTITIES.get, persist_state="session", label_visibility="collapsed")

with st.grid(4, min_column_width=150):
    for label, value, note in view.figures:
        st.metric(label, value, note, delta_color="off", delta_arrow="off", border=True)

with st.container(border=True):
    st.subheader("Predicted and measured", anchor=False, help="One dot a published run, predicted from its configuration alone. Hover for its name.")
    by = st.segmented_control("Colour by", list(accuracy.COLOURS), default="method", required=True, key="accuracy_colour", format_func=accuracy.COLOURS.get, persist_state="session")
    dots = accuracy.dots(quantity, by)
    frame.draw(charts.predicted_and_measured(dots, frame.theme(), view.unit), "accuracy_chart", charts.predicted_and_measured_alt(dots))

with st.container(border=True):
    st.subheader("Errors by class", anchor=False)
    grouping = st.segmented_control("Class", list(accuracy.GROUPINGS), default="source", required=True, key="accuracy_grouping", format_func=accuracy.GROUPINGS.get, persist_state="session", label_visibility="collapsed")
    st.dataframe(accuracy.table(quantity, grouping), hide_index=True, column_config=accuracy.columns(), placeholder="–", alt="Errors of the classes of runs")
    st.caption("Error is |predicted − measured| / measured. Held out: no row of the same source, model, accelerator and method took part in the fit. In interval: share of held-out rows inside the 90 % interval.")

with st.container(border=True):
    st.subheader("Furthest off", anchor=False)
    st.dataframe(accuracy.worst(record, quantity), hide_index=True, column_config=accuracy.worst_columns(), column_order=accuracy.WORST_ORDER, placeholder="–", alt="Runs that are predicted worst")
    st.caption("One of each source and model. A run that the planner gets wrong stays in the record.")

with st.container(border=True):
    st.subheader("Not predicted", anchor=False)
    st.markdown(texts.plain(accuracy.skipped_sentence(record)))
    with st.expander("Reasons", key="accuracy_skipped"):
        st.dataframe(accuracy.skipped(record), hide_index=True, alt="Why published runs were not predicted")
