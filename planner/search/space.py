"""Which configurations a search looks at: the values of every free field, and which of their combinations a run may have.

A configuration is a choice (device, method, degrees, sharding, …) with a number of accelerators and of micro steps. Choices that differ
only in these two numbers are kept together as a `Cell`: rows are numbers of accelerators, columns numbers of micro steps.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.catalog import find_accelerator, price_for
from planner.device import DeviceProfile
from planner.errors import PlanError
from planner.estimate.money import hourly_rate
from planner.estimate.resolve import Resolved, resolve
from planner.method import Method
from planner.run import Run, parse_run
from planner.search.constraints import Constraints
from planner.workload.stacks import STACKS

POWERS: Final = tuple(2**i for i in range(11))
MOST_MICRO, MOST_STEPS, MOST_CHUNKS = 32, 64, 2
CONTEXT_PART: Final = 2048
"""Tokens of a sequence that a context-parallel rank has at least, where the search chooses the degree."""
BATCH_TOKENS: Final = 2**20
"""Without a largest batch, micro steps beyond what the smallest batch needs are tried up to this many tokens a step."""
SHARDINGS: Final = ("none", "ddp", "zero1", "zero2", "zero3", "hsdp")
OFFLOADS: Final = ("none", "optimizer", "params", "optimizer+params", "activations")
CHECKPOINTING: Final = ("none", "selective", "full")


class Choice(NamedTuple):
    """A configuration but for its numbers of accelerators and micro steps. method: an index of the space's methods."""

    gpu: str
    method: int
    micro: int
    checkpointing: str
    tp: int
    cp: int
    ep: int
    sequence_parallel: bool
    pp: int
    virtual_pp: int
    sharding: str
    offload: str


@dataclass(frozen=True)
class Site:
    """So many accelerators of one kind, connected. resolved: a plain data-parallel run on them, for what depends on the hardware alone."""

    gpu: str
    count: int
    resolved: Resolved

    @property
    def machine(self) -> int:
        """Accelerators of one machine."""
        return self.resolved.run.hardware.gpus_per_node or 1


@dataclass(frozen=True)
class Cell:
    """A choice with every number of accelerators for which the same formulas hold, and every number of micro steps.

    dp: data-parallel degree of each site · allowed: which combinations of site (rows) and micro steps (columns) the constraints admit.
    """

    choice: Choice
    sites: tuple[Site, ...]
    dp: NDArray[np.int64]
    steps: NDArray[np.int64]
    allowed: NDArray[np.bool_]

    @property
    def size(self) -> int:
        return int(self.allowed.sum())

    def rows(self, kept: NDArray[np.bool_]) -> Cell:
        """The cell with some of its sites."""
        sites = tuple(site for site, keep in zip(self.sites, kept, strict=True) if keep)
        return replace(self, sites=sites, dp=self.dp[kept], allowed=self.allowed[kept])


@dataclass(frozen=True)
class Space:
    """Values of every free field; empty tuples are filled by `complete`. given: names of fields that the user restricted."""

    run: Run
    gpus: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    methods: tuple[Method, ...] = ()
    micro: tuple[int, ...] = ()
    accumulation: tuple[int, ...] = ()
    checkpointing: tuple[str, ...] = ()
    sharding: tuple[str, ...] = ()
    tp: tuple[int, ...] = ()
    pp: tuple[int, ...] = ()
    cp: tuple[int, ...] = ()
    ep: tuple[int, ...] = ()
    sequence_parallel: tuple[bool, ...] = ()
    virtual_pp: tuple[int, ...] = ()
    offload: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    constraints: Constraints = field(default_factory=Constraints)
    profile: DeviceProfile | None = None
    sites: tuple[Site, ...] = ()
    left_out: tuple[str, ...] = ()
    given: tuple[str, ...] = ()

    @property
    def least_batch(self) -> int:
        """Sequences of a global batch, at least: the run's own unless a constraint says otherwise."""
        batch = self.run.batch
        return self.constraints.min_batch or batch.micro * batch.accumulation * self.run.dp

    def run_of(self, choice: Choice, count: int, steps: int) -> Run:
        """The run file of a configuration."""
        mapping = self.run.model_dump(exclude_unset=True)
        method = self.methods[choice.method]
        if method != self.run.method:
            mapping["method"] = method.model_dump(exclude_unset=True)
        hardware = mapping.get("hardware", {}) | {"gpu": self._named(choice.gpu), "gpus": count}
        parallel = mapping.get("parallel", {}) | {
            name: getattr(choice, name)
            for name in ("tp", "pp", "cp", "ep", "virtual_pp", "sharding", "sequence_parallel")
        }
        if choice.pp == 1 or parallel.get("schedule") in ("1f1b", "interleaved"):  # the schedule of so many chunks is the default
            parallel.pop("schedule", None)
        if choice.cp == 1:
            parallel.pop("cp_kind", None)
        if choice.ep == 1:
            parallel.pop("expert_imbalance", None)
        mapping |= {
            "hardware": hardware,
            "parallel": parallel,
            "batch": mapping.get("batch", {}) | {"micro": choice.micro, "accumulation": steps},
            "activation_checkpointing": choice.checkpointing,
            "offload": choice.offload,
        }
        if choice.checkpointing != "full":
            mapping.pop("checkpoints", None)
        if self.providers:
            price = {k: v for k, v in (mapping.get("price") or {}).items() if k not in ("usd_per_gpu_hour", "provider")}
            mapping["price"] = price | {"provider": self._cheapest(choice.gpu)}
        elif not self._own(choice.gpu) and (mapping.get("price") or {}).get("usd_per_gpu_hour") is not None:
            mapping["price"] = {k: v for k, v in mapping["price"].items() if k != "usd_per_gpu_hour"}
        return parse_run(mapping)

    def profile_of(self, gpu: str) -> DeviceProfile | None:
        """The measured profile, where it is this device's."""
        return self.profile if self.profile is not None and self.profile.accelerator_name == gpu else None

    def _cheapest(self, gpu: str) -> str:
        """The provider that asks least for an accelerator: all else equal, no other can be better. The first where none has an offer."""
        offers = [o for name in self.providers if (o := price_for(gpu, name, self.run.price.spot)) is not None]
        return min(offers, key=lambda o: o.usd_per_gpu_hour).provider if offers else self.providers[0]

    def _named(self, gpu: str) -> Any:
        """The accelerator as the run file has it: the run's own may be an edited one."""
        own = self.run.hardware.gpu
        return own if self._own(gpu) and own is not None else gpu

    def _own(self, gpu: str) -> bool:
        """Whether this is the accelerator of the run, whose price and edits the run states."""
        return self.run.hardware.gpu is None or not self.gpus or gpu == _name(self.run.hardware.gpu)

    def traces(self) -> Iterator[Choice]:
        """One choice for everything that decides how the model is traced: all but device, stages, sharding and offload."""
        for method in range(len(self.methods)):
            for micro in self.micro:
                for checkpointing in self.checkpointing:
                    for tp in self.tp:
                        for cp in self.cp:
                            for ep in self.ep:
                                for sp in self.sequence_parallel:
                                    if sp <= (tp > 1):
                                        yield Choice("", method, micro, checkpointing, tp, cp, ep, sp, 1, 1, "", "")

    def stages(self, trace: Choice) -> Iterator[Choice]:
        """The same with every number of pipeline stages that some site can hold."""
        most = max((site.count for site in self.sites), default=0)
        for pp in self.pp:
            if trace.tp * trace.cp * pp <= most:
                yield trace._replace(pp=pp)

    def cells(self, staged: Choice) -> Iterator[Cell]:
        """All configurations of a trace with its stages."""
        for sites in self._alike(staged):
            ranks = sites[0].count // (staged.tp * staged.pp * staged.cp) * staged.cp
            several = tuple(site for site in sites if site.count > site.machine)  # within one machine hsdp is zero3
            for virtual in self.virtual_pp if staged.pp > 1 else (1,):
                for sharding in self.sharding:
                    if (ranks == 1) != (sharding == "none") or (sharding == "hsdp" and not several):
                        continue
                    choice = staged._replace(gpu=sites[0].gpu, virtual_pp=virtual, sharding=sharding)
                    cell = self._cell(choice, several if sharding == "hsdp" else sites)
                    if cell is not None:
                        yield from (replace(cell, choice=choice._replace(offload=offload)) for offload in self.offload)

    def _alike(self, staged: Choice) -> Iterator[tuple[Site, ...]]:
        """Sites that can hold the stages, by what makes formulas branch: device, one accelerator or rank or several, spread of experts."""
        parts = staged.tp * staged.pp * staged.cp
        found: dict[object, list[Site]] = {}
        for site in self.sites:
            dp, rest = divmod(site.count, parts)
            if rest or not dp or (dp * staged.cp * (staged.tp if staged.sequence_parallel else 1)) % staged.ep:
                continue
            replicas = dp * staged.cp
            key = (site.gpu, site.count == 1, dp == 1, replicas == 1, min(staged.ep, replicas))
            found.setdefault(key, []).append(site)
        return (tuple(sites) for sites in found.values())

    def _cell(self, choice: Choice, sites: tuple[Site, ...]) -> Cell | None:
        dp = np.array([s.count // (choice.tp * choice.pp * choice.cp) for s in sites], dtype=np.int64)
        multiple = choice.pp if choice.virtual_pp > 1 else 1
        needed = -(-self.least_batch // (choice.micro * dp))
        needed = -(-needed // multiple) * multiple
        steps = np.unique(np.concatenate([self.accumulation, [] if "accumulation" in self.given else needed]).astype(np.int64))
        steps = steps[steps % multiple == 0]
        batch = choice.micro * dp[:, None] * steps
        largest = self.constraints.max_batch
        if largest is not None:
            allowed = batch <= largest
        elif "accumulation" in self.given:
            allowed = np.ones_like(batch, dtype=bool)
        else:
            tokens = self.sites[0].resolved.run.batch.seq_len or CONTEXT_PART
            allowed = (batch <= max(self.least_batch, BATCH_TOKENS // tokens)) | (steps == needed[:, None])
        allowed &= batch >= self.least_batch
        rows, columns = allowed.any(axis=1), allowed.any(axis=0)
        if not rows.any():
            return None
        kept = tuple(s for s, keep in zip(sites, rows, strict=True) if keep)
        return Cell(choice, kept, dp[rows], steps[columns], allowed[rows][:, columns])

    def __iter__(self) -> Iterator[Cell]:
        for trace in self.traces():
            for staged in self.stages(trace):
                yield from self.cells(staged)


def complete(space: Space) -> Space:
    """The space with every value filled in and its sites resolved. Raises `PlanError` where nothing is left or two restrictions exclude each other."""
    run = space.run
    given = tuple(
        f.name for f in fields(space) if f.name in _FREE and getattr(space, f.name)
    )
    gpus = space.gpus or (_gpu_of(run, space.profile),)
    counts = space.counts or (run.hardware.gpus,)
    space = replace(space, gpus=gpus, counts=counts, methods=space.methods or (run.method,), given=given)
    sites, left_out, problem = _sites(space)
    if not sites:
        raise problem or PlanError("gpus", counts, "is no number of accelerators", "Give counts such as 1-64.")
    space = replace(space, sites=sites, left_out=left_out)
    model = sites[0].resolved
    most = max(site.count for site in sites)
    machine = max(site.machine for site in sites)
    batch, p, seq = run.batch, run.parallel, model.run.batch.seq_len or 0
    if not model.stack.pipelines:
        space = _without_pipelines(space, model)
    experts = {kind.experts.count for kind in model.arch.kinds if kind.experts is not None}
    largest = space.constraints.max_batch or math.inf
    defaults: dict[str, Collection[Any]] = {
        "micro": [n for n in {*_powers(MOST_MICRO), batch.micro} if n <= largest],
        "accumulation": [n for n in {*_powers(MOST_STEPS), batch.accumulation} if n <= largest],
        "checkpointing": [c for c in CHECKPOINTING if c != "selective" or not _nothing_selected(model)],
        "sharding": SHARDINGS,
        "tp": {*_powers(min(most, machine)), p.tp},
        "pp": {*_powers(min(most, model.arch.layers) if model.stack.pipelines else 1), p.pp},
        "cp": {*_powers(min(most, seq // CONTEXT_PART)), p.cp},
        "ep": {1, p.ep, *(n for n in _powers(most) if experts and not any(count % n for count in experts))},
        "sequence_parallel": (False, True),
        "virtual_pp": {*_powers(MOST_CHUNKS), p.virtual_pp},
        "offload": [o for o in OFFLOADS if o != "params" or model.stack.zero_engine],  # elsewhere states go with the weights
    }
    filled: dict[str, Any] = {
        name: getattr(space, name) or tuple(sorted(values) if name in _NUMBERS else values)
        for name, values in defaults.items()
    }
    return replace(space, **filled)


def _without_pipelines(space: Space, model: Resolved) -> Space:
    """The space of a stack that trains no pipelines: stages that the run does not have are refused, and the answer says why there are none."""
    stack, own = model.stack, space.run.parallel.pp
    others = ", ".join(name for name, kind in STACKS.items() if kind.pipelines)
    if any(pp not in (1, own) for pp in space.pp):
        raise PlanError("pp", space.pp, f"asks for pipeline stages, and {stack.label} trains none", f"Use pp 1, or a stack that has them: {others}.")
    if max(space.counts) < 2 or space.pp or model.arch.layers < 2:
        return space
    said = f"Pipeline stages: {stack.label} trains none. Stacks that do: {others}."
    return replace(space, left_out=(*space.left_out, said))


_NUMBERS: Final = ("micro", "accumulation", "tp", "pp", "cp", "ep", "virtual_pp")
_FREE: Final = (
    "gpus", "counts", "methods", "micro", "accumulation", "checkpointing", "sharding", "tp", "pp", "cp", "ep",
    "sequence_parallel", "virtual_pp", "offload",
)  # fmt: skip


def _nothing_selected(r: Resolved) -> bool:
    """Whether selective checkpointing is none: it drops what attention keeps, and a fused kernel keeps nothing."""
    return r.stack.selective == "attention" and r.attention != "eager"


def _powers(most: int) -> tuple[int, ...]:
    return tuple(n for n in POWERS if n <= max(1, most))


def _name(gpu: str | dict[str, Any] | None) -> str:
    if isinstance(gpu, dict):
        return str(gpu.get("base"))
    return find_accelerator(gpu).name if gpu else ""


def _gpu_of(run: Run, profile: DeviceProfile | None) -> str:
    """The run's accelerator, the profile's, or the default."""
    from planner.estimate.resolve import DEFAULT_GPU

    if run.hardware.gpu is not None:
        return _name(run.hardware.gpu)
    return profile.accelerator_name if profile is not None else DEFAULT_GPU


def _sites(space: Space) -> tuple[tuple[Site, ...], tuple[str, ...], PlanError | None]:
    """Every accelerator and number that a plain data-parallel run may have; why others are left out, one sentence a device."""
    sites: list[Site] = []
    left_out: list[str] = []
    first: PlanError | None = None
    for gpu in space.gpus:
        refused: dict[str, list[int]] = {}
        for count in space.counts:
            choice = Choice(gpu, 0, 1, "none", 1, 1, 1, False, 1, 1, "none" if count == 1 else "ddp", "none")
            try:
                site = Site(gpu, count, resolve(space.run_of(choice, count, 1), space.profile_of(gpu)))
                hourly_rate(site.resolved)  # refuses a provider without an offer
                sites.append(site)
            except PlanError as error:
                first = first or error
                refused.setdefault(f"{error.field} {error.problem}", []).append(count)
        left_out += [f"{_counts(counts)} × {gpu}: {problem}." for problem, counts in refused.items()]
    return tuple(sites), tuple(left_out), first


def _counts(counts: list[int]) -> str:
    shown = ", ".join(map(str, counts[:4]))
    return f"{shown}, … ({len(counts)} numbers)" if len(counts) > 4 else shown
