"""How a run divides its work, with defaults filled in; what cannot be divided so is refused by the name of its field."""

from __future__ import annotations

from planner.errors import PlanError
from planner.estimate import schedules
from planner.run import Parallel, Run
from planner.workload import Architecture
from planner.workload.stacks import find_stack


def parallel_of(run: Run, arch: Architecture) -> Parallel:
    """The run's division of work with its schedule named. Raises `PlanError` for degrees and kinds that do not go together."""
    _check(run)
    p = run.parallel
    _check_experts(p, arch)
    if p.cp > 1 and p.cp_kind is None:
        p = p.model_copy(update={"cp_kind": find_stack(run.stack).context})
    if p.pp == 1:
        return p
    chunks = 2 if p.schedule in schedules.V_SHAPED and "virtual_pp" not in p.model_fields_set else p.virtual_pp
    schedule = schedules.schedule_of(p.model_copy(update={"virtual_pp": chunks}))
    schedules.check(schedule, p.pp, chunks, run.batch.accumulation)
    return p.model_copy(update={"schedule": schedule, "virtual_pp": chunks})


def rows_of(p: Parallel) -> float:
    """Rows of the busiest rank's experts over those of a balanced one: padded to the capacity, or cut at it where an imbalance is given."""
    if p.expert_capacity is None:
        return p.expert_imbalance
    return p.expert_capacity if "expert_imbalance" not in p.model_fields_set else min(p.expert_imbalance, p.expert_capacity)


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
    if p.cp == 1 and p.cp_kind is not None:
        raise PlanError("parallel.cp_kind", p.cp_kind, "needs context parallelism", "Use cp above 1, or leave it out.")
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


def _check_experts(p: Parallel, arch: Architecture) -> None:
    """Capacity and imbalance mean something where there are experts."""
    mixture = any(kind.experts is not None for stack in arch.stacks for kind in stack.kinds)
    for name, said in (("expert_capacity", p.expert_capacity is not None), ("expert_imbalance", p.expert_imbalance != 1.0)):
        if said and not mixture:
            raise PlanError(f"parallel.{name}", getattr(p, name), f"needs experts, and {arch.model_type} has none", "Leave it out.")
    if p.expert_imbalance != 1.0 and p.ep == 1:
        raise PlanError(
            "parallel.expert_imbalance", p.expert_imbalance, "means nothing where one rank has all experts", "Use ep above 1, or leave it out."
        )
