"""How a run divides its work, with defaults filled in; what cannot be divided so is refused by the name of its field."""

from __future__ import annotations

from planner.errors import PlanError
from planner.estimate import schedules
from planner.run import Parallel, Run
from planner.workload import Architecture


def parallel_of(run: Run, arch: Architecture) -> Parallel:
    """The run's division of work with its schedule named. Raises `PlanError` for degrees and kinds that do not go together."""
    _check(run)
    p = run.parallel
    if p.pp == 1:
        return p
    chunks = 2 if p.schedule in schedules.V_SHAPED and "virtual_pp" not in p.model_fields_set else p.virtual_pp
    schedule = schedules.schedule_of(p.model_copy(update={"virtual_pp": chunks}))
    schedules.check(schedule, p.pp, chunks, run.batch.accumulation)
    return p.model_copy(update={"schedule": schedule, "virtual_pp": chunks})


def _check(run: Run) -> None:
    p = run.parallel
    if p.virtual_pp > 1 and p.pp == 1:
        raise PlanError(
            "parallel.virtual_pp", p.virtual_pp, "needs pipeline stages", "Use pp above 1, or virtual_pp: 1."
        )
    if p.sequence_parallel and p.tp == 1:
        raise PlanError("parallel.sequence_parallel", True, "needs tensor parallelism", "Use tp above 1, or false.")
    if p.ep > 1 and (run.dp * p.cp * (p.tp if p.sequence_parallel else 1)) % p.ep:
        raise PlanError(
            "parallel.ep", p.ep, f"does not divide the {run.dp * p.cp} data-parallel ranks", "Use a divisor of them."
        )
    for name in ("schedule", "stages"):
        if p.pp == 1 and getattr(p, name) is not None:
            raise PlanError(f"parallel.{name}", getattr(p, name), "needs pipeline stages", "Use pp above 1, or leave it out.")
    if run.parallel.sharding not in (None, "none") and run.dp * p.cp == 1 and run.parallel.sharding != "ddp":
        raise PlanError(
            "parallel.sharding",
            run.parallel.sharding,
            "needs more than one data-parallel rank",
            "Use more GPUs, or sharding: none.",
        )
    if run.parallel.sharding == "none" and run.dp > 1:
        raise PlanError(
            "parallel.sharding",
            "none",
            f"cannot keep {run.dp} data-parallel ranks in step",
            "Use ddp, zero1, zero2 or zero3, or one GPU.",
        )
