"""What a report stands on: alternatives, assumptions, overrides, exclusions, calibration, evidence, sources, and how to reproduce it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from planner import units
from planner.advise import delta_texts, why_not
from planner.catalog import DEFAULT_PUE, find_accelerator, price_for, snapshot_date
from planner.errors import PlanError, shorten
from planner.estimate.result import Estimate
from planner.estimate.words import NOT_MODELLED
from planner.evidence.nearest import Measured, Support, support
from planner.evidence.score import measured_tokens
from planner.lock.pins import calibration as calibration_of
from planner.lock.pins import versions
from planner.report.blocks import Block, Bullets, Code, Paragraph, Table
from planner.report.registry import Subject
from planner.run import Run

LEVEL: Final = 0.9
NEAREST: Final = 5
_MOST: Final = 40
_EVIDENCE: Final = {
    "near": "Runs like this one were published and measured: its interval is tested where it stands.",
    "related": "No published run is near in all respects: the interval comes from a wider class and may be too narrow here.",
    "none": "No published run comes near this one: the figures follow from the model alone. Measure a short run before relying on their intervals.",
}


def energy(subject: Subject) -> list[Block]:
    """Power, energy and emissions with what they are multiplied from."""
    e, details = subject.estimate, subject.estimate.details
    board, watts = details.get("board_w"), details.get("watts_per_gpu")
    if e.energy_kwh is None or board is None or watts is None:
        return []
    given = e.run.energy
    pue = f"{given.pue:g}, given" if given.pue is not None else f"{DEFAULT_PUE:g}, an industry average"
    rows = [
        ("Power of one board, mean", f"{units.significant(board, 3)} W"),
        ("With its share of the host, and the building", f"{units.significant(watts, 3)} W (PUE {pue})"),
        ("Energy of the whole run", units.format_energy(e.energy_kwh)),
    ]
    if e.co2e_kg is not None:
        where = "given" if given.kg_co2e_per_kwh is not None else given.country or "world average"
        rows.append(("Emissions", f"{units.format_mass(e.co2e_kg)} CO2e at {units.significant(e.co2e_kg / e.energy_kwh, 3)} kg/kWh ({where})"))
    return [Table(("Figure", "Value"), tuple(rows))]


def alternatives(subject: Subject) -> list[Block]:
    """Every change that was tried and is not suggested, with the reason."""
    advice = subject.advice
    if advice is None:
        return []
    rows = [(s.title, *delta_texts(s), why_not(s, subject.estimate)) for s in advice.others]
    rows += [(title, "–", "–", "–", f"Not possible: {problem}.") for title, problem in advice.refused]
    if not rows:
        return []
    note = f"{advice.tried} single changes were estimated; those that help stand on the first page."
    if len(rows) > _MOST:
        note += f" {len(rows) - _MOST} more are left out here."
    return [Paragraph(note), Table(("Change", "Time", "Memory", "Cost", "Why not"), tuple(rows[:_MOST]), frozenset({1, 2, 3}))]


def split_assumptions(e: Estimate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(what was assumed, what is left out) of an estimate's sentences."""
    out = tuple(text for text in e.assumptions if text in NOT_MODELLED or text.startswith("Not in "))
    return tuple(text for text in e.assumptions if text not in out), out


def assumptions(subject: Subject) -> list[Block]:
    """What was taken as given."""
    found, _ = split_assumptions(subject.estimate)
    return [Bullets(found)] if found else []


def exclusions(subject: Subject) -> list[Block]:
    """What the figures do not hold."""
    _, found = split_assumptions(subject.estimate)
    return [Bullets(found)] if found else []


def overrides(subject: Subject) -> list[Block]:
    """Values of the catalogue that the run replaces by its own; a sentence where it replaces none."""
    found = tuple(_overrides(subject.run or subject.estimate.run))
    return [Bullets(found)] if found else [Paragraph("None: every figure of the catalogue is used as it stands.")]


def _overrides(run: Run) -> Iterator[str]:
    h, given = run.hardware, run.energy
    for path, value in (("model", run.model), ("hardware.gpu", h.gpu), *((f"hardware.groups.{i}", g.gpu) for i, g in enumerate(h.groups or ()))):
        if isinstance(value, dict) and "base" in value:
            edits = ", ".join(f"{key} = {shorten(edit, 60)}" for key, edit in value.items() if key != "base")
            yield f"{path}: {shorten(value['base'], 80)} with {edits}."
        elif path == "model" and isinstance(value, dict):
            yield "model: a configuration of its own, of no catalogue."
    if run.price.usd_per_gpu_hour is not None:
        yield f"price.usd_per_gpu_hour: {units.format_usd(run.price.usd_per_gpu_hour)}{_listed(run)}."
    if run.price.own.purchase_usd is not None:
        yield f"price.own.purchase_usd: {units.format_usd(run.price.own.purchase_usd)} in place of rented hours."
    if h.network_gbps is not None and "network_gbps" in h.model_fields_set:
        yield f"hardware.network_gbps: {h.network_gbps:g} Gb/s in place of the typical machine's."
    if given.pue is not None:
        yield f"energy.pue: {given.pue:g} in place of {DEFAULT_PUE:g}."
    if given.kg_co2e_per_kwh is not None:
        yield f"energy.kg_co2e_per_kwh: {given.kg_co2e_per_kwh:g} in place of the grid's."
    if run.parallel.stages is not None:
        yield f"parallel.stages: {', '.join(map(str, run.parallel.stages[:64]))} in place of an even division."


def _listed(run: Run) -> str:
    """What the catalogue asks for the same accelerator."""
    gpu = run.hardware.gpu
    try:
        name = find_accelerator(gpu.get("base", "") if isinstance(gpu, dict) else gpu or "").name
        offer = price_for(name, None, run.price.spot)
    except PlanError:
        return ""
    return "" if offer is None else f" in place of {units.format_usd(offer.usd_per_gpu_hour)} ({offer.provider}, {offer.date.isoformat()})"


def calibration(subject: Subject) -> list[Block]:
    """The measured device that the plan stands on, or that there is none."""
    e, profile = subject.estimate, subject.profile
    source = shorten(e.details.get("profile_source") or "the catalogue's curves", 400)
    if profile is None:
        return [Paragraph(f"None: speeds are those of the catalogue ({source}). `planner calibrate` measures a device in a few minutes.")]
    told = calibration_of(profile)
    rows = [("Profile", told["name"]), ("Accelerator", told["accelerator"]), ("SHA-256", told["sha256"]), ("Curves", source)]
    if (known := profile.conditions) is not None:
        rows += [("Measured on", f"{known.device}, {known.date}"), ("Software", f"torch {known.torch}" + (f", CUDA {known.cuda}" if known.cuda else ""))]
        rows += [("Driver", known.driver)] if known.driver else []
        rows += [("Warning", warning) for warning in known.warnings]
    return [Table(("Calibration", "Value"), tuple(rows))]


def evidence(subject: Subject) -> list[Block]:
    """The published runs nearest to the plan, and how far off the planner was on each."""
    said: Support = support(subject.estimate, NEAREST)
    if not said.runs:
        return []
    rows = tuple(_measured(run) for run in said.runs)
    header = ("Run", "Distance", "Tokens/s per GPU", "Off by", "Peak", "Off by", "Published in")
    note = "Distance: a factor of two in parameters counts 1, in GPUs 0.5; another GPU, method or software 1 to 2. Errors are held out."
    return [Paragraph(_EVIDENCE[said.level]), Table(header, rows, frozenset({1, 2, 3, 4, 5})), Paragraph(note)]


def _measured(run: Measured) -> tuple[str, ...]:
    row = run.neighbour.row
    rate = measured_tokens(row) if "time" in row.target_set else None
    peak = row.peak_mem_gib if "memory" in row.target_set else None
    return (
        f"{row.model}, {row.method or 'full'}, {row.gpus or 1} × {row.gpu or 'not stated'}",
        f"{run.neighbour.distance:.2f}",
        "–" if rate is None else f"{rate:,.0f}",
        _error(run.tokens_ratio),
        "–" if peak is None else f"{peak:.1f} GiB",
        _error(run.memory_ratio),
        shorten(f"{row.source_group}: {row.source}", 160),
    )


def _error(ratio: float | None) -> str:
    return "–" if ratio is None else f"{'+' if ratio >= 1 else '−'}{units.format_percent(abs(ratio - 1), 2)}"


def sources(subject: Subject) -> list[Block]:
    """Where the figures come from, the most used first."""
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


def reproduce(subject: Subject) -> list[Block]:
    """Commands, the run file, and the versions that give these figures."""
    calibrated = " --profile PROFILE.json" if subject.estimate.basis == "calibrated" or subject.profile is not None else ""
    commands = (
        f"python -m planner estimate run.yaml{calibrated}\n"
        f"python -m planner report run.yaml{calibrated} -o report.html\n"
        f"python -m planner lock run.yaml{calibrated} -o plan.lock\n"
        f"python -m planner check plan.lock{calibrated}"
    )
    known = versions()
    text = f"run.yaml, for Plumbline {known['planner']} (engine {known['engine']}) with the price snapshot of {snapshot_date().isoformat()}:"
    return [Code(commands, "sh"), Paragraph(text), Code(run_file(subject), "yaml")]


def run_file(subject: Subject) -> str:
    """The run as YAML: as its author wrote it, else the resolved run."""
    import yaml

    run = subject.run
    if run is not None:
        mapping = run.model_dump(mode="json", exclude_unset=True)
    else:
        mapping = _without_nothing(subject.estimate.run.model_dump(mode="json", exclude_none=True))
    return str(yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True, width=110))


def _without_nothing(mapping: dict[str, Any]) -> dict[str, Any]:
    """Without empty parts, which would only lengthen the run file."""
    return {name: value for name, value in mapping.items() if value not in ({}, None)}
