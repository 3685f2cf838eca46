"""Draws inputs: those with a closed list of values, and those that follow from a field of a run, by what the field takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import streamlit as st

from planner.ui import fields
from planner.ui.address import CHOICES
from planner.ui.language import _

URL: Any = "query-params"


def choice(key: str) -> dict[str, Any]:
    """Arguments that all inputs with a closed list share."""
    return {"options": list(CHOICES[key]), "key": key, "bind": URL, "format_func": lambda value: _(str(CHOICES[key].get(value, value)))}


def options(names: Iterable[str], key: str) -> list[str]:
    """Names to choose from, and what was typed or stands in the address."""
    found = list(names)
    said = st.session_state.get(key, st.query_params.get(key))
    return [*found, said] if isinstance(said, str) and said and said not in found else found


def said(key: str) -> bool:
    """Whether something else than the default is said for an input, which is then shown wherever it means something or not."""
    value = st.session_state.get(key, st.query_params.get(key))
    return value not in (None, "", "false", fields.starting(key), str(fields.starting(key)))


def draw(entry: fields.Entry) -> None:
    """One input. What is left out of a number shows the default as its placeholder."""
    shared: dict[str, Any] = {"label": _(entry.label), "key": entry.key, "bind": URL, "help": _(entry.help)}
    start = fields.starting(entry.key)
    if entry.kind == "flag":
        st.toggle(**shared)
    elif entry.kind == "choice":
        st.selectbox(**shared | choice(entry.key))
    elif entry.kind == "text":
        st.text_input(max_chars=1000, placeholder=_("as usual"), **shared)
    elif entry.kind == "integer":
        st.number_input(
            min_value=int(entry.low), max_value=int(entry.high), value=start, step=1, placeholder=_("as usual"), **shared
        )
    else:
        st.number_input(
            min_value=float(entry.low), max_value=float(entry.high), value=start, placeholder=_("as usual"), **shared
        )


def draw_all(entries: Iterable[fields.Entry]) -> None:
    """Numbers and choices two in a row, texts and switches each in a row of its own."""
    short: list[fields.Entry] = []
    wide: list[fields.Entry] = []
    for entry in entries:
        (short if entry.kind in ("integer", "number", "choice") else wide).append(entry)
    for i in range(0, len(short), 2):
        pair = short[i : i + 2]
        for place, entry in zip(st.columns(2, gap="xsmall"), pair, strict=False):
            with place:
                draw(entry)
    for entry in wide:
        draw(entry)
