"""What the Compare page shows: alternatives of a plan from lists of values, their table, and what a click on a row does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import streamlit as st

from planner import units
from planner.advise import apply
from planner.device import DeviceProfile
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.estimate.verdict import FITS
from planner.run import Run
from planner.search.compare import Compared, compare
from planner.search.constraints import Objective
from planner.search.pareto import front
from planner.summary import gpu_name, precision_name, verdict
from planner.ui import changes, estimates, fields
from planner.ui.language import _
from planner.workload.methods import METHODS

MOST: Final = 60
"""Plans in one comparison: each costs a few milliseconds, and more than a screen of them is a search."""
THIS: Final = "This plan"
SHARDINGS: Final = {"ddp": "DDP", "zero1": "ZeRO-1", "zero2": "ZeRO-2", "zero3": "ZeRO-3 (FSDP)", "hsdp": "HSDP"}
GPUS: Final = ("A100 SXM4 80GB", "H100 SXM 80GB", "H200 SXM 141GB", "L40S")
"""What stands beside the plan before anything is chosen."""
_TIMES: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))


@dataclass(frozen=True)
class Plan:
    """One of the compared. run: None where it cannot be planned · problem: why not."""

    name: str
    run: Run | None
    problem: str = ""


@dataclass(frozen=True)
class Choices:
    """Values to combine; an empty list is the plan's own value."""

    gpus: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    shardings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A comparison. rows: best first, those that do not fit last · refused: what cannot be planned, and why · left_out: combinations beyond `MOST`."""

    rows: tuple[Compared, ...]
    runs: dict[str, Run]
    refused: tuple[Plan, ...]
    left_out: int


def method_change(run: Run, name: str) -> dict[str, Any]:
    """The change to another method: rank and targets are kept where the other reads them too."""
    if name == run.method.name:
        return {}
    read = METHODS[name].fields
    method: dict[str, Any] = {"name": name}
    for key in read:
        value = getattr(run.method, key, None)
        if key in run.method.model_fields_set and value is not None:
            method[key] = value
        elif key in fields.STARTS:
            method[key] = fields.STARTS[key]
    if "targets" in read and "targets" not in method and read[:1] != ("targets",):
        method["targets"] = "all-linear"
    change: dict[str, Any] = {"method": method}
    if "qlora" in (name, run.method.name):
        change["precision"] = None  # the base's format is the method's own
    return change


def gpu_change(run: Run, gpu: str) -> dict[str, Any]:
    """The change to another accelerator: a price and a machine that were said of the old one are not the new one's."""
    if gpu == run.hardware.gpu:
        return {}
    change: dict[str, Any] = {"hardware.gpu": gpu}
    if run.hardware.gpus_per_node is not None:
        change["hardware.gpus_per_node"] = None
    for name in ("usd_per_gpu_hour", "provider"):
        if getattr(run.price, name) is not None:
            change[f"price.{name}"] = None
    if run.price.own.purchase_usd is not None:
        change["price.own.purchase_usd"] = None
    return change


def own_gpu(resolved: Run) -> str:
    """Name of the plan's accelerator in the catalogue, edited or not."""
    gpu = resolved.hardware.gpu
    return str(gpu.get("base", "")) if isinstance(gpu, dict) else gpu or ""


def alternatives(run: Run, resolved: Run, chosen: Choices) -> tuple[list[Plan], int]:
    """Every combination but the plan itself, with a name that says what differs; how many beyond `MOST` were left out."""
    own = own_gpu(resolved)
    lists: tuple[Sequence[Any], ...] = (
        chosen.gpus or (None,), chosen.counts or (None,), chosen.methods or (None,), chosen.precisions or (None,), chosen.shardings or (None,),
    )  # fmt: skip
    combinations = list(product(*lists))
    found: list[Plan] = []
    for gpu, count, method, precision, sharding in combinations[:MOST]:
        same = (
            gpu in (None, own), count in (None, run.hardware.gpus), method in (None, run.method.name),
            precision in (None, precision_name(resolved)), sharding in (None, resolved.parallel.sharding),
        )  # fmt: skip
        if all(same):
            continue
        many = count or run.hardware.gpus
        parts = [f"{many} × {gpu or gpu_name(resolved)}", METHODS[method].label if method else "", precision or "", SHARDINGS.get(sharding, "")]
        name = " · ".join(filter(None, parts))
        try:
            changed = apply(run, {} if gpu is None or same[0] else gpu_change(run, gpu))
            if method is not None:
                changed = apply(changed, method_change(changed, method))
            if count is not None:
                changed = apply(changed, estimates.on_gpus(changed, count))
            if precision is not None:
                changed = apply(changed, {"precision": precision})
            if sharding is not None:
                if changed.dp * changed.parallel.cp == 1:
                    raise PlanError("parallel.sharding", sharding, "needs more than one data-parallel copy", "Compare it on more GPUs.")
                changed = apply(changed, {"parallel.sharding": sharding})
            found.append(Plan(name, changed))
        except PlanError as error:
            found.append(Plan(name, None, f"{error.field} {error.problem}"))
    return found, max(0, len(combinations) - MOST)


def table(
    run: Run, now: Estimate, plans: Sequence[Plan], left_out: int, profile: DeviceProfile | None, baseline: str, objective: Objective
) -> Table:
    """Estimate and rank. baseline: name of the plan that the others are compared with."""
    known: list[tuple[str, Estimate]] = [(THIS, now)]
    runs, refused = {THIS: run}, []
    for plan in plans:
        if plan.run is None:
            refused.append(plan)
            continue
        same = plan.run.hardware.gpu == run.hardware.gpu
        one = estimates.estimated(plan.run, profile if same else None)
        if isinstance(one, PlanError):
            refused.append(Plan(plan.name, None, f"{one.field} {one.problem}"))
        else:
            known.append((plan.name, one))
            runs[plan.name] = plan.run
    if len(known) < 2:
        return Table((), runs, tuple(refused), left_out)
    known.sort(key=lambda one: one[0] != baseline)
    return Table(compare(known, objective), runs, tuple(refused), left_out)


def time_unit(seconds: Sequence[float | None]) -> tuple[float, str]:
    """One unit for a column of times: the largest in which the middle one is at least 1."""
    known = sorted(value for value in seconds if value is not None)
    middle = known[len(known) // 2] if known else 1.0
    return next(((size, name) for size, name in _TIMES if middle >= size), _TIMES[-1])


def columns(unit: str, whole: bool) -> dict[str, Any]:
    """How the columns of `lines` are shown. unit: of time · whole: figures are of whole runs, else of one sample."""
    per, column = "" if whole else " of a sample", st.column_config
    return {
        "rank": column.NumberColumn("#", width=40),
        "plan": column.TextColumn(_("Plan"), width="medium"),
        "time": column.NumberColumn(_(f"Time{per} [{unit}]"), format="%.3g"),
        "time_delta": column.NumberColumn(_("Δ time"), format="%+.0f %%", help=_("Difference to the baseline ★.")),
        "cost": column.NumberColumn(_(f"Cost{per} [$]"), format="%.2f" if whole else "%.3g"),
        "cost_delta": column.NumberColumn(_("Δ cost"), format="%+.0f %%", help=_("Difference to the baseline ★.")),
        "memory": column.NumberColumn(_("Memory [GiB]"), format="%.1f", help=_("Reserved at the peak, per GPU.")),
        "free": column.NumberColumn(_("Free [GiB]"), format="%.1f"),
        "energy": column.NumberColumn(_(f"Energy{per} [kWh]"), format="%.3g"),
        "fits": column.TextColumn(_("Verdict")),
        "efficient": column.TextColumn(_("Pareto"), help=_("No other is better in time, cost, energy and risk together.")),
    }


def lines(rows: Sequence[Compared], baseline: str, size: float) -> list[dict[str, Any]]:
    """Rows of the table. size: of the unit of time [s]."""
    return [
        {
            "rank": row.rank,
            "use": f":material/check: {_('Use')}" if row.name != THIS else "",
            "plan": f"{'★ ' if row.name == baseline else ''}{_(row.name)}",
            "time": None if row.time is None else row.time / size,
            "time_delta": _share(row.deltas["time"], row.time),
            "cost": row.cost,
            "cost_delta": _share(row.deltas["cost"], row.cost),
            "memory": row.reserved / units.GIB,
            "free": None if (usable := row.estimate.usable_memory_bytes) is None else (usable - row.reserved) / units.GIB,
            "energy": row.energy,
            "fits": _(FITS[row.estimate.fits]),
            "efficient": _("yes") if row.efficient else "",
        }
        for row in rows
    ]


def _share(delta: float | None, value: float | None) -> float | None:
    """A difference over the baseline's figure [%]."""
    if delta is None or value is None or value == delta:
        return None
    return 100 * delta / (value - delta)


def reason(row: Compared) -> str:
    """Why a row does not fit."""
    return verdict(row.estimate).sentence.removeprefix("Does not fit: ")


def pareto_line(rows: Sequence[Compared]) -> list[Compared]:
    """Of what fits or may fit, the rows that no other beats in both time and cost, by time."""
    import numpy as np

    known = [row for row in rows if row.rank is not None and row.time is not None and row.cost is not None]
    if not known:
        return []
    kept = front(np.array([[row.time, row.cost] for row in known], dtype=float))
    return sorted((known[i] for i in kept.tolist()), key=lambda row: row.time or 0.0)


def use(key: str, runs: Sequence[Run]) -> None:
    """The row whose button was pressed becomes the plan; Undo is in the sidebar."""
    click = st.session_state.get(key)
    if click is not None and 0 <= click["row"] < len(runs):
        changes.set_run(runs[click["row"]])
