"""Explanations beside the figures: the headline, the arithmetic from the ledger, changes in words and colour."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import streamlit as st

from planner import units
from planner.estimate.result import Estimate, Term
from planner.report.content import value_text
from planner.summary import BASES, Figure, precision_name, sample_text, stage_text
from planner.ui import frame, texts
from planner.ui.language import _

MEMORY_HELP: Final = (
    "What is held at the fullest moment of a step, and what the allocator holds beyond it. The dashed line is what the device offers "
    "to the program: its memory less the driver's context. The whisker is the 90 % interval."
)
STEP_HELP: Final = "Time of one optimizer step by kind of kernel, forward, backward and recomputation together. What overlaps is not counted twice."
PIPELINE_HELP: Final = "Stages from top to bottom, time from left to right. What has no colour is waiting. Below, the memory of one GPU of each kind of stage."
_RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
STEP_VIEWS: Final = {"kernel": "By kernel", "phase": "By phase"}
CURVE_HELP: Final = "What is alive as one step proceeds. Checkpointing lowers the hill; sharding and fewer trained weights lower the ground."


def headline(e: Estimate) -> str:
    """What was planned, and what the plan stands on, in one line of markdown."""
    run = e.run
    batch = f"batch {units.format_integer(run.batch.micro * run.batch.accumulation * run.dp)}"
    parts = (sample_text(run), batch, precision_name(run), frame.texts_stack(run))
    colour, icon, _sentence = texts.EVIDENCE[e.basis]
    rest = " · ".join(texts.plain(part) for part in parts if part)
    return f"{frame.summary_line(e)} · {rest} :{colour}-badge[{icon} {_(BASES[e.basis])}]"


def memory_notes(e: Estimate) -> tuple[str, ...]:
    """What the memory chart does not show: which stage it is of, and what lives on the host."""
    stage, host = stage_text(e), e.details.get("host_memory_bytes")
    lines = (
        f"Of {stage}, the fullest; the others hold less." if stage else "",
        f"{units.format_bytes(host)} more in the host memory of each machine." if host else "",
    )
    return tuple(filter(None, lines))


def figure_label(figure: Figure) -> str:
    """A figure's label; "per GPU" stands here where it would make the value too long for a phone."""
    per_gpu = " per GPU" if figure.name == "throughput" and figure.value_text.endswith("per GPU") else ""
    return texts.plain(figure.label + per_gpu)


def figure_value(figure: Figure) -> str:
    """A figure's value, short enough for a phone."""
    return _(figure.value_text.removesuffix(" per GPU").replace("tokens/s", "tok/s").replace("about ", "≈ "))


def figure_note(figure: Figure) -> str:
    """A figure's interval and what it stands on, in one or two short lines."""
    interval = f"{texts.plain(figure.interval_text)}" if figure.interval_text else ""
    basis = texts.plain(figure.basis_text)
    return "  \n".join(filter(None, (interval, basis))) or _("not known")


def step_view() -> str:
    """How the step is divided: by kind of kernel, or by phase."""
    return st.segmented_control(
        _("Divide the step"),
        list(STEP_VIEWS),
        default="kernel",
        required=True,
        key="step_by",
        format_func=lambda name: _(STEP_VIEWS[name]),
        label_visibility="collapsed",
        persist_state="session",
    )


def delta(name: str, text: str) -> str:
    """A change in words and colour: less is green, more is orange."""
    words = _({"time": "time", "memory": "memory", "cost": "cost"}[name])
    if text in ("same", "–"):
        return f":gray[{texts.plain(text)} {words}]" if text == "same" else f":gray[{words} {_('unknown')}]"
    colour = "green" if text.startswith("−") else "orange"
    return f":{colour}[{texts.plain(text)}] :gray[{words}]"


def arithmetic(e: Estimate, key: str, prefixes: Sequence[str]) -> None:
    """The terms behind a figure, when asked for: value, formula in symbols and in numbers, source."""
    with st.expander(
        _("Show the arithmetic"), icon=":material/function:", key=f"arithmetic_{key}", on_change="rerun"
    ) as fold:
        if not fold.open:
            return
        terms = [
            term
            for term in e.terms
            if any(term.name == prefix or term.name.startswith(prefix + "/") for prefix in prefixes)
        ]
        rows = dict(row(term, prefixes[0]) for term in terms)
        st.table(rows, border="horizontal", alt=_("Terms with value, formula and source"))
        st.download_button(
            _("As CSV"),
            lambda: csv(terms),
            f"{key}.csv",
            "text/csv",
            key=f"csv_{key}",
            icon=":material/download:",
            type="tertiary",
            on_click="ignore",
        )


def row(term: Term, prefix: str) -> tuple[str, str]:
    """A term as a line of a table, safe to show as markdown: its name, then value, formula, the formula's inputs, source."""
    name = term.name.removeprefix(prefix + "/").removeprefix("figures/").replace("_", " ").replace("/", " · ")
    inputs = {
        symbol: value for symbol, value in term.inputs.items() if value != "" and symbol in _symbols(term.formula)
    }
    numbers = ", ".join(f"{symbol} = {number(value)}" for symbol, value in inputs.items())
    lines = [f"**{texts.plain(value_text(term.value, term.unit))}** = {texts.code(term.formula)}"]
    if numbers:
        lines.append(f":small[{texts.plain(numbers)}]")
    lines.append(f":small[:gray[{texts.plain(term.source)}]]")
    return texts.plain(name[:1].upper() + name[1:]), "  \n".join(lines)


def _symbols(formula: str) -> set[str]:
    return set(re.findall(r"[A-Za-z_][A-Za-z_\-]*", formula))


def number(value: float | int | str) -> str:
    """An input of a formula as people read it."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return units.format_integer(value)
    if value == 0 or 1e-3 <= abs(value) < 1e9:
        return units.significant(value, 4)
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{mantissa} · 10{str(int(exponent)).translate(_RAISED)}"


def csv(terms: Sequence[Term]) -> str:
    """Terms as CSV, values in SI units."""
    import csv as writer
    import io

    text = io.StringIO()
    lines = writer.writer(text)
    lines.writerow(("term", "value", "unit", "formula", "inputs", "source"))
    for term in terms:
        inputs = "; ".join(f"{symbol} = {value}" for symbol, value in term.inputs.items())
        lines.writerow((term.name, repr(term.value), term.unit, term.formula, inputs, term.source))
    return text.getvalue()
