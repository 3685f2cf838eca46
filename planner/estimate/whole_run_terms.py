"""The whole run in the ledger and in sentences: seconds and money by line, what is not counted, what to beware of."""

from __future__ import annotations

import math

from planner.estimate.ledger import term
from planner.estimate.money import MONTH_HOURS, YEAR_HOURS, Rate
from planner.estimate.resolve import Resolved
from planner.estimate.result import Term
from planner.estimate.whole_run import Course
from planner.units import DAY, format_bytes, format_percent, format_rate, format_seconds, significant

DALY = "Daly 2006, Future Generation Computer Systems 22(3), eq. 20 and 37; Young 1974"
_FAILURES = "419 unexpected interruptions in 54 days on 16,384 H100: Llama 3, arXiv:2407.21783, sec. 3.3.4"
_STORAGE = "2 TB/s for 16,384 accelerators: Llama 3, arXiv:2407.21783, sec. 3.3.1; at least 1 GB/s assumed"
_SKIPPED = {
    "startup_s": "start-up",
    "warmup_s": "warm-up of the first steps",
    "eval_tokens": "evaluation",
    "loader_tokens_per_s": "waiting for data",
}
_FORMULAS = {
    "steps": "steps · t_step",
    "loading": "steps · max(0, T / loader − t_step)",
    "evaluation": "evaluations · tokens · t_forward / T",
    "checkpoints": "checkpoints · t_stall",
    "rework": "expected time − work − checkpoints − restarts",
    "restarts": "failures · R",
    "startup": "start-up + warm-up",
}


def course_terms(r: Resolved, course: Course) -> list[Term]:
    """`run/…`: sums to the total time; `figures/goodput` and what a checkpoint is."""
    said = r.run.whole_run
    given = "given in the run"
    rate: dict[str, float | int | str] = {
        "λ [1/s]": float(course.rate),
        "δ": float(course.stall),
        "τ": float(course.interval),
        "R": said.restart,
        "failures": float(course.failures),
    }
    terms = []
    for name, value in course.parts():
        if not value:
            continue
        inputs, origin = rate, DALY + (f"; {_FAILURES}" if said.failures_per_gpu_day is None else "")
        if name in ("steps", "loading", "evaluation", "startup"):
            inputs, origin = {}, "definition" if name == "steps" else given
        terms.append(term(f"run/{name}", value, "s", _FORMULAS[name], inputs, origin))
    sizes: dict[str, float | int | str] = {"bytes": course.checkpoint_bytes, "t_write": float(course.write), "checkpoints": float(course.written)}
    origin = "weights, masters and optimizer states of the undivided model; of a method that leaves its base, what it trains"
    terms.append(term("figures/checkpoint", course.checkpoint_bytes, "B", "sum of N · bytes", sizes, origin))
    if said.storage_gb_per_s is None:
        terms.append(term("figures/checkpoint_write", float(course.write), "s", "bytes / max(1 GB/s, G / 8 · 1 GB/s)", sizes, _STORAGE))
    else:
        terms.append(term("figures/checkpoint_write", float(course.write), "s", "bytes / bandwidth", sizes, given))
    terms.append(term("figures/goodput", course.goodput, "1", "steps · t_step / t_run", {"t_run": float(course.total)}, "definition"))
    return terms


def cost_terms(r: Resolved, rate: Rate, lines: dict[str, float], hours: float | None, energy: float | None) -> list[Term]:
    """`cost/…`: sums to the cost of the whole run."""
    if not lines or hours is None or rate.usd_per_gpu_hour is None:
        return []
    choice, own = r.run.price, r.run.price.own
    where = f"{rate.provider} {rate.date}: {rate.source}".strip()
    time = hours / r.run.hardware.gpus
    known: dict[str, tuple[str, dict[str, float | int | str], str]] = {
        "compute": ("GPU-hours · price", {"GPU-hours": hours, "price": rate.usd_per_gpu_hour}, where),
        "ownership": (
            "GPU-hours · (purchase / lifetime + upkeep) / (year · utilization)",
            {
                "GPU-hours": hours, "purchase": own.purchase_usd or 0.0, "lifetime": own.lifetime_years, "upkeep": own.usd_per_gpu_year,
                "year": YEAR_HOURS, "utilization": own.utilization,
            },
            where,
        ),
        "electricity": ("energy · price", {"energy": energy or 0.0, "price": own.usd_per_kwh}, "price.own.usd_per_kwh"),
        "storage": (
            "TB · price · months",
            {"TB": choice.storage_tb or 0.0, "price": choice.usd_per_tb_month or 0.0, "months": time / MONTH_HOURS},
            "given in the run",
        ),
        "egress": ("TB · price", {"TB": choice.egress_tb or 0.0, "price": choice.usd_per_tb_egress or 0.0}, "given in the run"),
    }  # fmt: skip
    if choice.reserved_days is not None:
        inputs: dict[str, float | int | str] = {"GPU-hours": hours, "G": r.run.hardware.gpus, "days": choice.reserved_days, "price": rate.usd_per_gpu_hour}
        known["compute"] = ("max(GPU-hours, G · 24 · days reserved) · price", inputs, where)
    return [term(f"cost/{name}", value, "USD", *known[name]) for name, value in lines.items()]


def course_notes(r: Resolved, course: Course | None) -> list[str]:
    """What the total time holds beside steps, and what it does not."""
    if course is None or math.isnan(course.total):
        return []
    said, lines = r.run.whole_run, []
    delays = float(course.checkpoints + course.rework + course.restarts)
    if delays:
        how = "as given" if said.failures_per_gpu_day is not None else f"at the rate of {_FAILURES}"
        lines.append(
            f"Total time counts {significant(float(course.failures), 2)} expected failures ({how}) and checkpoints of {format_bytes(course.checkpoint_bytes)} "
            f"every {format_seconds(float(course.interval))}: {format_seconds(delays)} in all."
        )
    skipped = [word for name, word in _SKIPPED.items() if getattr(said, name) is None]
    if skipped:
        lines.append(f"Not in the total time, until whole_run says how much: {', '.join(skipped)}.")
    if r.run.energy.pue is None:
        lines.append("Energy: board power by operation mix is modelled; no published run with measured power is at hand, so its error is not known.")
    return lines


def course_warnings(r: Resolved, course: Course | None, tokens_per_s: float) -> tuple[str, ...]:
    """Waiting for data, spot capacity without a rate, reservations too short, and runs that never end."""
    if course is None:
        return ()
    said, price, lines = r.run.whole_run, r.run.price, list[str]()
    if said.loader_tokens_per_s is not None and said.loader_tokens_per_s < tokens_per_s:
        lines.append(
            f"Bound by data loading: steps could take {format_rate(tokens_per_s)} and the loader gives {format_rate(said.loader_tokens_per_s)}."
        )
    if price.spot and said.interruptions_per_machine_day is None:
        lines.append("Spot capacity: interruptions are not counted. Give whole_run.interruptions_per_machine_day for expected time and cost.")
    if math.isnan(course.total):
        between = format_seconds(1.0 / float(course.rate))
        lines.append(f"No total time: one interruption every {between} lets no segment of {format_seconds(float(course.interval))} end. Checkpoint more often.")
    elif float(course.goodput) < 0.5:
        lines.append(f"Only {format_percent(float(course.goodput), 2)} of the time is in steps that count.")
    if price.reserved_days is not None and price.reserved_days * DAY < course.total:
        lines.append(f"The reservation of {price.reserved_days:g} days ends before the run, which takes {format_seconds(float(course.total))}.")
    return tuple(lines)
