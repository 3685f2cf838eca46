"""What a report says, in which order, free of any markup: Markdown and HTML write the same document."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from planner import __version__, units
from planner.advise import FITS_WORDS, delta_texts, in_need
from planner.catalog import snapshot_date
from planner.estimate.result import Term
from planner.report import pipeline, serving
from planner.report.registry import Subject
from planner.summary import (
    Figure,
    State,
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

LEVEL: Final = 0.9
_LONGEST_VALUE = 200


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A line of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text. `numeric` holds the columns that are aligned to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Code:
    """Text to be copied as it is."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A place for a chart: memory, curve, time, timeline or stages. Formats without pictures leave it out: a table says the same."""

    name: str


Block = Paragraph | Bullets | Table | Code | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part; a folded one is closed where the format can fold."""

    name: str
    title: str
    blocks: tuple[Block, ...]
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report."""

    state: State
    verdict: str
    headline: tuple[str, ...]
    figures: tuple[Figure, ...]
    sections: tuple[Section, ...]


def build(subject: Subject) -> Document:
    """The document of a report, first what matters and then its details."""
    estimate = subject.estimate
    state, sentence = verdict(estimate)
    makers: tuple[tuple[str, str, Callable[[Subject], list[Block]], bool], ...] = (
        ("limits", "What limits it", _limits, False),
        ("help", "What would help", _help, False),
        ("facts", "In numbers", _facts, False),
        ("configuration", "Configuration", _configuration, False),
        ("memory", "Memory per GPU" if estimate.run.hardware.gpus > 1 else "Memory", _memory, False),
        ("time", "Step time", _time, False),
        ("pipeline", "Pipeline", _pipeline, False),
        ("whole", "The whole run", _whole, False),
        ("serving", "Beside training: serving it on the same card", _serving, True),
        ("assumptions", "Assumptions and what is left out", _assumptions, False),
        ("warnings", "Warnings", _warnings, False),
        ("sources", "Sources", _sources, False),
        ("reproduce", "Reproduce it", _reproduce, False),
        ("terms", "The arithmetic", _terms, True),
    )
    sections = tuple(
        Section(name, title, tuple(blocks), folded) for name, title, make, folded in makers if (blocks := make(subject))
    )
    return Document(state, sentence, headline(estimate), key_figures(estimate), sections)


def run_file(subject: Subject) -> str:
    """The run as YAML: as its author wrote it, else the resolved run."""
    import yaml

    run = subject.run
    if run is not None:
        mapping = run.model_dump(mode="json", exclude_unset=True)
    else:
        mapping = _without_nothing(subject.estimate.run.model_dump(mode="json", exclude_none=True))
    return str(yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True, width=110))


def value_text(value: float, unit: str) -> str:
    """A term's value as people read it."""
    formatters: dict[str, Callable[[float], str]] = {
        "B": units.format_bytes,
        "FLOP": units.format_flops,
        "FLOP/s": lambda v: units.format_flops(v, per_second=True),
        "s": units.format_seconds,
        "1": units.format_count,
        "USD": units.format_usd,
        "kWh": units.format_energy,
        "kg": units.format_mass,
        "B/s": units.format_bandwidth,
        "token/s": units.format_rate,
    }
    return formatters[unit](value)


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
    fields = [(path, _shown(path, value)) for path, value in _leaves(subject.estimate.run.model_dump()) if value is not None]
    header = ("Field", "Value")
    if subject.run is None:
        return [Table(header, tuple(fields))]
    given = set(dict(_leaves(subject.run.model_dump(exclude_unset=True))))
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


def _assumptions(subject: Subject) -> list[Block]:
    return [Bullets(subject.estimate.assumptions)] if subject.estimate.assumptions else []


def _warnings(subject: Subject) -> list[Block]:
    return [Bullets(subject.estimate.warnings)] if subject.estimate.warnings else []


def _sources(subject: Subject) -> list[Block]:
    estimate = subject.estimate
    counts = Counter(term.source for term in estimate.terms if term.source)
    items = [f"{source} ({count} {'term' if count == 1 else 'terms'})" for source, count in counts.most_common()]
    price = estimate.details.get("price")
    if isinstance(price, Mapping) and price.get("source"):
        when = ", ".join(str(price[key]) for key in ("provider", "date") if price.get(key))
        items.append(f"Price: {price['source']}" + (f" ({when})" if when else ""))
    blocks: list[Block] = (
        [Paragraph(f"Intervals hold {units.format_percent(LEVEL)}. {estimate.interval_note}")]
        if estimate.interval_note
        else []
    )
    return [*blocks, Bullets(tuple(items))] if items else blocks


def _reproduce(subject: Subject) -> list[Block]:
    calibrated = " --profile PROFILE.json" if subject.estimate.basis in ("calibrated", "measured") else ""
    return [
        Code(f"python -m planner estimate run.yaml{calibrated}", "sh"),
        Paragraph(f"run.yaml, for Plumbline {__version__} with the price snapshot of {snapshot_date().isoformat()}:"),
        Code(run_file(subject), "yaml"),
    ]


def _terms(subject: Subject) -> list[Block]:
    rows = tuple((t.name, value_text(t.value, t.unit), _with_numbers(t), t.source) for t in subject.estimate.terms)
    return [Table(("Term", "Value", "Formula", "Source"), rows, frozenset({1}))] if rows else []


def _with_numbers(term: Term) -> str:
    inputs = ", ".join(f"{symbol} = {_number(value)}" for symbol, value in term.inputs.items())
    return f"{term.formula} with {inputs}" if inputs else term.formula


def _number(value: float | int | str) -> str:
    if isinstance(value, float):
        return units.significant(value, 4) if 1e-3 <= abs(value) < 1e12 or value == 0 else f"{value:.4g}"
    return units.format_integer(value) if isinstance(value, int) else value


def _leaves(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every field; a model or GPU that is itself a mapping counts as one value."""
    for name, value in mapping.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and path not in ("model", "hardware.gpu"):
            yield from _leaves(value, path + ".")
        else:
            yield path, value


def _is_given(path: str, given: set[str]) -> bool:
    return path in given or (path.startswith("precision.") and any(name.startswith("precision.") for name in given))


def _shown(path: str, value: Any) -> str:
    if path == "model" and isinstance(value, Mapping):
        return f"configuration of {len(value)} fields ({value.get('model_type', value.get('_class_name', 'unknown type'))})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return units.format_integer(value)
    if isinstance(value, float):
        return f"{value:.12g}"
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _without_nothing(mapping: dict[str, Any]) -> dict[str, Any]:
    """Without empty parts, which would only lengthen the run file."""
    return {name: value for name, value in mapping.items() if value not in ({}, None)}
