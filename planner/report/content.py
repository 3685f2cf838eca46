"""What a report says, in which order, free of any markup: every format writes the same document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from planner import units
from planner.advise import FITS_WORDS, delta_texts, in_need
from planner.estimate.result import Term
from planner.lock.pins import leaves
from planner.report import grounds, pipeline, ranks, serving
from planner.report.blocks import Block, Bullets, Chart, Document, Paragraph, Section, Table
from planner.report.grounds import run_file as run_file
from planner.report.registry import Subject
from planner.report.values import number_text, shown
from planner.report.values import value_text as value_text
from planner.summary import (
    bill_parts,
    course_facts,
    course_parts,
    facts,
    headline,
    key_figures,
    memory_parts,
    reason,
    share_text,
    time_parts,
    verdict,
)

FIRST_PAGE: Final = ("limits", "help", "warnings")
"""Sections on the first page, under the verdict and the four figures."""
FOLDED: Final = ("serving", "terms")
"""Sections that are closed where a format can fold: they are beside the plan, or the ledger behind it."""


def build(subject: Subject) -> Document:
    """The document of a report: a first page that answers, then its details, in one order for every format."""
    estimate = subject.estimate
    state, sentence = verdict(estimate)
    several = estimate.run.hardware.gpus > 1
    makers: tuple[tuple[str, str, Callable[[Subject], list[Block]]], ...] = (
        ("limits", "What limits it", _limits),
        ("help", "What would help", _help),
        ("warnings", "Warnings", _warnings),
        ("configuration", "Configuration", _configuration),
        ("facts", "In numbers", _facts),
        ("memory", "Memory per GPU" if several else "Memory", _memory),
        ("time", "Step time", _time),
        ("pipeline", "Pipeline", _pipeline),
        ("whole", "The whole run", _whole),
        ("energy", "Energy", grounds.energy),
        ("ranks", "Rank by rank", ranks.blocks),
        ("alternatives", "Alternatives, and why not", grounds.alternatives),
        ("assumptions", "Assumptions", grounds.assumptions),
        ("overrides", "Overrides", grounds.overrides),
        ("exclusions", "What is left out", grounds.exclusions),
        ("calibration", "Calibration", grounds.calibration),
        ("evidence", "Nearest measured runs", grounds.evidence),
        ("sources", "Sources", grounds.sources),
        ("reproduce", "Reproduce it", grounds.reproduce),
        ("serving", "Beside training: serving it on the same card", _serving),
        ("terms", "The arithmetic", _terms),
    )
    sections = tuple(
        Section(name, title, tuple(blocks), name in FOLDED, name in FIRST_PAGE) for name, title, make in makers if (blocks := make(subject))
    )
    return Document(state, sentence, headline(estimate), key_figures(estimate), sections)


def _limits(subject: Subject) -> list[Block]:
    estimate = subject.estimate
    sentences = [estimate.limited_by, reason(estimate)]
    return [Paragraph(text) for text in sentences if text]


def _help(subject: Subject) -> list[Block]:
    if not subject.suggestions:
        return []
    header: tuple[str, ...] = ("Change", "Time", "Memory", "Cost")
    rows: list[tuple[str, ...]] = [(s.title, *delta_texts(s)) for s in subject.suggestions]
    if in_need(subject.estimate):
        header = (*header, "Then")
        rows = [(*row, FITS_WORDS[s.fits]) for row, s in zip(rows, subject.suggestions, strict=True)]
    note = Paragraph("Each is this run with the one change, estimated anew.")
    return [Table(header, tuple(rows), frozenset({1, 2, 3})), note]


def _facts(subject: Subject) -> list[Block]:
    return [Table(("Figure", "Value"), facts(subject.estimate))]


def _configuration(subject: Subject) -> list[Block]:
    """What was given as a table, and every default in a line; all in one table when it is not known what was given."""
    fields = [(path, shown(path, value)) for path, value in leaves(subject.estimate.run.model_dump()) if value is not None]
    header = ("Field", "Value")
    if subject.run is None:
        return [Table(header, tuple(fields))]
    given = set(dict(leaves(subject.run.model_dump(exclude_unset=True))))
    stated = tuple(row for row in fields if _is_given(row[0], given))
    defaults = [f"{path} {text}" for path, text in fields if not _is_given(path, given)]
    return [Table(header, stated), Paragraph(f"By default: {', '.join(defaults)}.")] if defaults else [Table(header, stated)]


def _memory(subject: Subject) -> list[Block]:
    estimate = subject.estimate
    parts = memory_parts(estimate)
    rows = [(p.label, units.format_bytes(p.value), share_text(p.share), p.detail) for p in parts]
    rows.append(("Reserved at the peak", units.format_bytes(estimate.peak_reserved_bytes), "", estimate.peak_moment))
    rows.append(
        ("Usable", units.format_bytes(estimate.usable_memory_bytes), "", "what the device offers to the allocator")
    )
    return [
        Chart("memory"),
        Table(("Part", "Memory", "Share", "Of which"), tuple(rows), frozenset({1, 2})),
        Chart("curve"),
    ]


def _time(subject: Subject) -> list[Block]:
    estimate = subject.estimate
    if estimate.step_time_s is None:
        return [Paragraph("The step time is not known.")]
    rows = [
        (p.label, units.format_seconds(p.value), share_text(p.share), p.detail)
        for p in time_parts(estimate)
    ]
    rows.append(("Step", units.format_seconds(estimate.step_time_s), "", ""))
    return [Chart("time"), Table(("Part", "Time", "Share", "Of which"), tuple(rows), frozenset({1, 2}))]


def _whole(subject: Subject) -> list[Block]:
    """Time and cost of the whole run by line, and what stands behind them."""
    estimate = subject.estimate
    time, bill, known = course_parts(estimate), bill_parts(estimate), course_facts(estimate)
    blocks: list[Block] = []
    if time and estimate.total_time_s is not None:
        rows = [(p.label, units.format_seconds(p.value), share_text(p.share)) for p in time]
        rows.append(("Whole run", units.format_seconds(estimate.total_time_s), ""))
        blocks.append(Table(("Part", "Time", "Share"), tuple(rows), frozenset({1, 2})))
    if bill and estimate.cost_usd is not None:
        rows = [(p.label, units.format_usd(p.value), share_text(p.share)) for p in bill]
        rows.append(("Whole run", units.format_usd(estimate.cost_usd), ""))
        blocks.append(Table(("Line", "Cost", "Share"), tuple(rows), frozenset({1, 2})))
    return [*blocks, Table(("Figure", "Value"), known)] if known else blocks


def _pipeline(subject: Subject) -> list[Block]:
    """The schedule of a run with pipeline stages, and how full each kind of stage becomes."""
    timeline = pipeline.timeline_of(subject.estimate)
    if timeline is None:
        return []
    header = ("Stages", "Layers", "Work in a step", "Waiting", "Peak memory")
    return [
        Chart("timeline"),
        Paragraph(pipeline.sentence(timeline)),
        Table(header, pipeline.table(subject.estimate), frozenset({1, 2, 3, 4})),
        Chart("stages"),
    ]


def _serving(subject: Subject) -> list[Block]:
    """Whether the trained model can be served on the run's accelerator; nothing for models that write no text."""
    found = serving.of_run(subject.estimate.run)
    if found is None:
        return []
    return [Paragraph(serving.sentence(found)), Table(("Figure", "Value"), serving.rows(found), frozenset({1})), Bullets(found.notes)]


def _warnings(subject: Subject) -> list[Block]:
    return [Bullets(subject.estimate.warnings)] if subject.estimate.warnings else []


def _terms(subject: Subject) -> list[Block]:
    rows = tuple((t.name, value_text(t.value, t.unit), _with_numbers(t), t.source) for t in subject.estimate.terms)
    return [Table(("Term", "Value", "Formula", "Source"), rows, frozenset({1}))] if rows else []


def _with_numbers(term: Term) -> str:
    inputs = ", ".join(f"{symbol} = {number_text(value)}" for symbol, value in term.inputs.items())
    return f"{term.formula} with {inputs}" if inputs else term.formula


def _is_given(path: str, given: set[str]) -> bool:
    return path in given or (path.startswith("precision.") and any(name.startswith("precision.") for name in given))
