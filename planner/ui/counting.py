"""Counts the lengths of an uploaded file's samples and puts their histogram into the plan. The file itself is not kept."""

from __future__ import annotations

from typing import Any, Final

import streamlit as st

from planner import units
from planner.errors import PlanError
from planner.run import parse_run
from planner.ui import changes, texts
from planner.ui.language import _
from planner.workload import counting as files

MOST_MIB: Final = 64
MOST_BINS: Final = 48
"""Lengths that stand in the address; bins of the histogram widen until there are no more."""
PACKING: Final = {
    "packed": "Joined and cut into whole sequences",
    "best-fit": "Packed whole (best fit)",
    "padded": "Padded to the longest of their batch",
    "bucketed": "Sorted by length, then padded",
    "fixed": "Padded to the sequence length",
}


def draw() -> None:
    """The popover under the training data."""
    with st.popover(_("Count a file"), icon=":material/straighten:", type="tertiary", key="count_popover"):
        st.caption(_("Lengths of the samples of a text file, one a line, or of JSONL. Only their histogram enters the plan."))
        st.file_uploader(_("Text or JSONL"), type=["txt", "text", "jsonl", "ndjson"], key="count_file", max_upload_size=MOST_MIB)
        st.file_uploader(_("tokenizer.json of the model"), type=["json"], key="count_tokenizer", max_upload_size=MOST_MIB)
        asks = "Asks huggingface.co for its tokenizer.json, on the click below only."
        st.text_input(_("or the name of a model that has one"), key="count_name", max_chars=200, help=_(asks))
        st.text_input(_("Field of the text"), key="count_field", max_chars=100, placeholder=_("the usual ones"))
        st.selectbox(_("How samples become sequences"), list(PACKING), key="count_packing", format_func=lambda name: _(PACKING[name]))
        st.button(_("Count"), icon=":material/play_arrow:", key="count", width="stretch", on_click=_count)
        if said := st.session_state.get("count_said"):
            colour, lines = said
            for line in lines:
                st.caption(f":{colour}[{texts.plain(line)}]")


def _count() -> None:
    """Count, and write the plan with the histogram; what is wrong is said in the popover."""
    here: dict[str, Any] = {key: st.session_state.get(f"count_{key}") for key in ("file", "tokenizer", "name", "field", "packing")}
    try:
        st.session_state["count_said"] = ("gray", _counted(here))
    except PlanError as error:
        st.session_state["count_said"] = ("red", (str(error),))


def _counted(here: dict[str, Any]) -> tuple[str, ...]:
    if here["file"] is None:
        raise PlanError("file", "", "is not given yet", "Upload a text or JSONL file.")
    name = str(here["name"] or "").strip()
    if here["tokenizer"] is not None:
        tokenizer = files.tokenizer_from(here["tokenizer"].getvalue(), here["tokenizer"].name)
    elif name:
        if name.startswith((".", "/", "~")) or "\\" in name or name.endswith(".json"):  # files of the server are not the visitor's to name
            raise PlanError("tokenizer", name, "is not a model's name", "Write an id such as organisation/name, or upload its tokenizer.json.")
        tokenizer = files.tokenizer_named(name)
    else:
        raise PlanError("tokenizer", "", "is not given yet", "Upload the model's tokenizer.json, or write the model's name.")
    file = here["file"]
    counted = files.count_lengths(file, file.size, file.name, tokenizer, here["field"] or None, MOST_MIB * units.MIB)
    run = st.session_state["current"].run
    mapping = run.model_dump(exclude_unset=True)
    mapping["data"] = {"samples": counted.samples, "lengths": counted.coarse(MOST_BINS), "packing": here["packing"]}
    changes.set_run(parse_run(mapping))
    mean, longest = counted.tokens / counted.read, max(counted.lengths)
    return (
        f"{counted.samples:,} samples, {mean:,.0f} tokens in the mean, half at most {counted.percentile(0.5):,}, the longest {longest:,}. "
        "They are in the plan; Undo is above.",
        *counted.remarks,
    )
