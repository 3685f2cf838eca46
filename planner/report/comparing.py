"""Several plans as one document: side by side, what differs, where memory and time go, what does not fit and why, and how to reproduce each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from planner import units
from planner.catalog import snapshot_date
from planner.estimate.result import Estimate
from planner.lock.pins import leaves, versions
from planner.report import svg
from planner.report.blocks import Block, Bullets, Chart, Code, Document, Paragraph, Section, Table
from planner.report.grounds import run_file, split_assumptions
from planner.report.registry import Comparison, Subject
from planner.report.values import shown
from planner.search.compare import Compared
from planner.summary import Part, degrees, gpu_name, key_figures, memory_parts, time_parts, verdict

_FITS = {True: "yes", None: "too close to call", False: "no"}


def build(comparison: Comparison) -> Document:
    """The document of a comparison."""
    rows = comparison.ranked()
    best = next((row for row in rows if row.rank == 1), None)
    several = f"{len(rows)} plans by {comparison.objective}"
    state, _ = verdict((best or rows[0]).estimate)
    sentence = f"{best.name} is the best of {several}" if best is not None else f"None of {several} fits"
    makers: tuple[tuple[str, str, Callable[[Comparison, Sequence[Compared]], list[Block]]], ...] = (
        ("side", "Side by side", _side),
        ("limits", "What limits each", _limits),
        ("why", "What does not fit, and why", _why_not),
        ("intervals", "Figures with their intervals", _figures),
        ("configuration", "Where they differ", _configuration),
        ("memory", "Memory per GPU", _memory),
        ("time", "Step time", _time),
        ("assumptions", "Assumptions", _assumptions),
        ("exclusions", "What is left out", _exclusions),
        ("reproduce", "Reproduce them", _reproduce),
    )
    sections = tuple(
        Section(name, title, tuple(blocks), first=name in ("side", "limits", "why"))
        for name, title, make in makers
        if (blocks := make(comparison, rows))
    )
    return Document(state, sentence, tuple(row.name for row in rows), (), sections)


def charts_of(comparison: Comparison) -> dict[str, str]:
    """The memory of every plan as SVG, by the name that the document calls it."""
    return {f"memory-{i}": svg.memory_bar(memory_parts(one.estimate), one.estimate.usable_memory_bytes) for i, one in enumerate(comparison.subjects)}


def _side(comparison: Comparison, rows: Sequence[Compared]) -> list[Block]:
    baseline, whole = comparison.subjects[0].name, all(one.estimate.total_time_s is not None for one in comparison.subjects)
    header = ("#", "Plan", "Time", "Δ", "Cost", "Δ", "Memory", "Energy", "Fits", "Nothing beats it")
    lines = []
    for row in rows:
        first, one = row.name == baseline, row.estimate
        lines.append(
            (
                "–" if row.rank is None else str(row.rank), f"{row.name} (baseline)" if first else row.name,
                units.format_seconds(row.time), change_text(row, "time", first), units.format_usd(row.cost), change_text(row, "cost", first),
                units.format_bytes(row.reserved), units.format_energy(row.energy), _FITS[one.fits], "yes" if row.efficient else "–",
            )
        )  # fmt: skip
    what = tuple((row.name, f"{row.estimate.run.hardware.gpus} × {gpu_name(row.estimate.run)}", degrees(row.estimate)) for row in rows)
    blocks: list[Block] = [
        Table(header, tuple(lines), frozenset({0, 2, 3, 4, 5, 6, 7})),
        Paragraph(f"Differences are to {baseline}. Nothing that fits beats a marked plan in time, cost, energy and risk together."),
        Table(("Plan", "Hardware", "Division"), what),
    ]
    if not whole:
        blocks.append(Paragraph("Time, cost and energy are those of one sample, since not every plan says how much is trained on."))
    return blocks


def change_text(row: Compared, name: str, baseline: bool) -> str:
    """The difference of a figure to the baseline's, in percent."""
    value, delta = getattr(row, name), row.deltas[name]
    if baseline:
        return ""
    if value is None or delta is None or value == delta:
        return "–"
    share = delta / (value - delta)
    return "same" if abs(share) < 0.005 else f"{'+' if share > 0 else '−'}{units.format_percent(abs(share), 2)}"


def _limits(comparison: Comparison, rows: Sequence[Compared]) -> list[Block]:
    return [Bullets(tuple(f"{row.name}: {row.estimate.limited_by}" for row in rows if row.estimate.limited_by))]


def _why_not(comparison: Comparison, rows: Sequence[Compared]) -> list[Block]:
    items = tuple(f"{row.name}: {row.estimate.fits_reason}" for row in rows if row.estimate.fits is not True)
    return [Bullets(items)] if items else []


def _figures(comparison: Comparison, rows: Sequence[Compared]) -> list[Block]:
    lines = [
        (row.name, figure.label, figure.value_text, figure.interval_text or "–", figure.chip, figure.basis_text)
        for row in rows
        for figure in key_figures(row.estimate)
    ]
    return [Table(("Plan", "Figure", "Value", "90 % interval", "", "Basis"), tuple(lines))]


def _configuration(comparison: Comparison, rows: Sequence[Compared]) -> list[Block]:
    """Every field that is not the same in all, defaults too, with those that were not given marked."""
    known = [dict(leaves(one.estimate.run.model_dump())) for one in comparison.subjects]
    given = [None if one.run is None else set(dict(leaves(one.run.model_dump(exclude_unset=True)))) for one in comparison.subjects]
    lines = []
    for path in dict.fromkeys(path for fields in known for path in fields):
        values = [fields.get(path) for fields in known]
        if any(value != values[0] for value in values):
            cells = [
                "–" if value is None else shown(path, value) + ("" if said is None or path in said or path.startswith("precision.") else " (default)")
                for value, said in zip(values, given, strict=True)
            ]
            lines.append((path, *cells))
    if not lines:
        return [Paragraph("They do not differ.")]
    return [Table(("Field", *(one.name for one in comparison.subjects)), tuple(lines))]


def _memory(comparison: Comparison, rows: Sequence[Compared]) -> list[Block]:
    table = _parts(comparison.subjects, memory_parts, units.format_bytes, "Reserved at the peak", lambda one: one.peak_reserved_bytes)
    return [table, *(Chart(f"memory-{i}", one.name) for i, one in enumerate(comparison.subjects))]


def _time(comparison: Comparison, rows: Sequence[Compared]) -> list[Block]:
    return [_parts(comparison.subjects, time_parts, units.format_seconds, "Step", lambda one: one.step_time_s)]


def _parts(
    subjects: Sequence[Subject], parts_of: Callable[[Estimate], tuple[Part, ...]], text: Callable[[float | None], str], total: str,
    whole: Callable[[Estimate], float | None],
) -> Table:  # fmt: skip
    """Parts of a total as rows, plans as columns."""
    found = [{part.label: part.value for part in parts_of(one.estimate)} for one in subjects]
    labels = dict.fromkeys(label for parts in found for label in parts)
    lines = [(label, *(text(parts[label]) if label in parts else "–" for parts in found)) for label in labels]
    lines.append((total, *(text(whole(one.estimate)) for one in subjects)))
    return Table(("Part", *(one.name for one in subjects)), tuple(lines), frozenset(range(1, len(subjects) + 1)))


def _assumptions(comparison: Comparison, rows: Sequence[Compared]) -> list[Block]:
    return _common([(one.name, split_assumptions(one.estimate)[0]) for one in comparison.subjects])


def _exclusions(comparison: Comparison, rows: Sequence[Compared]) -> list[Block]:
    return _common([(one.name, split_assumptions(one.estimate)[1]) for one in comparison.subjects])


def _common(told: Sequence[tuple[str, tuple[str, ...]]]) -> list[Block]:
    """Sentences, each once, with the plans that it is of where it is not of all."""
    items = []
    for text in dict.fromkeys(text for _, texts in told for text in texts):
        names = [name for name, texts in told if text in texts]
        items.append(text if len(names) == len(told) else f"{', '.join(names)}: {text}")
    return [Bullets(tuple(items))] if items else []


def _reproduce(comparison: Comparison, rows: Sequence[Compared]) -> list[Block]:
    files = [f"plan-{i}.yaml" for i in range(1, len(comparison.subjects) + 1)]
    command = f"python -m planner report {' '.join(files)} --objective {comparison.objective} -o comparison.html"
    known = versions()
    note = f"For Plumbline {known['planner']} (engine {known['engine']}) with the price snapshot of {snapshot_date().isoformat()}."
    blocks: list[Block] = [Code(command, "sh"), Paragraph(note)]
    for file, one in zip(files, comparison.subjects, strict=True):
        blocks += [Paragraph(f"{file}, {one.name}:"), Code(run_file(one), "yaml")]
    return blocks
