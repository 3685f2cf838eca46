"""Figures of many configurations at once, equal to those of `estimate` one by one.

A cell's runs differ in accelerators and micro steps only. The engine's formulas get a run in which these two are arrays: a column of
data-parallel degrees, a row of micro steps. What does not depend on them comes from `Pieces`, once for a trace.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from planner.errors import PlanError
from planner.estimate import uncertainty
from planner.estimate.arrays import Several, most
from planner.estimate.assemble import facts_of
from planner.estimate.engine import estimate
from planner.estimate.money import bill, hourly_rate
from planner.estimate.offload import Offload, add_time, offload_of
from planner.estimate.ranks import shares_of
from planner.estimate.resolve import Resolved, resolve
from planner.estimate.result import Estimate
from planner.estimate.shape import Shape, shape_of
from planner.estimate.stages import alike, layers_of
from planner.estimate.states import books_of, context_of, persistent_of
from planner.estimate.step import clock_of, ranks_of
from planner.estimate.time import Clock, StepTime, close_step
from planner.estimate.verdict import reserved_of, steps_of
from planner.run import Run
from planner.search.pieces import Floats, Live, Piece, Pieces, pieces_of, spread_of
from planner.search.schedules import Waiting, totals
from planner.search.space import Cell, Choice, Site, Space
from planner.workload.optimizers import Step

BATCH, MOST_CELLS = 100_000, 2000
"""Configurations and cells that wait together."""
NEAR: Final = 1.25
"""Peaks up to this many times the usable memory are timed in a search, though they do not fit: to say what a little more memory would bring."""
QUANTILE: Final = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True)
class Figures:
    """Figures of a cell's configurations; rows are sites, columns numbers of micro steps.

    seconds of a step · time of the whole run, or of one sample where no data is given [s] · cost [USD] and energy [kWh] of the same, NaN where
    unknown · reserved: peak memory [bytes], with the ratios of measured to predicted peak that hold 90 % of the runs, by row · usable [bytes] ·
    fits: 1 yes, 0 too close to call, -1 no.
    """

    cell: Cell
    seconds: Floats
    time: Floats
    cost: Floats
    energy: Floats
    reserved: Floats
    low: Floats
    high: Floats
    usable: float | None
    fits: NDArray[np.int8]

    def chance(self, where: NDArray[np.bool_]) -> Floats:
        """Probability that the masked configurations fit."""
        low, high = (np.broadcast_to(ratio, where.shape)[where] for ratio in (self.low, self.high))
        return chance_of_fit(self.reserved[where], self.usable, low, high)


def chance_of_fit(reserved: Floats, usable: float | None, low: Floats, high: Floats) -> Floats:
    """Probability that the true peak is below the usable memory.

    low, high: ratios of measured to predicted peak that hold 90 % of the runs. The logarithm of the ratio is taken as normal with its
    5 % and 95 % quantiles there and its centre at 1, each side with its own width.
    """
    if usable is None:
        return np.full(np.shape(reserved), np.nan)
    room = np.log(usable / reserved)
    width = np.where(room >= 0, np.log(np.maximum(high, 1.0 + 1e-6)), -np.log(np.minimum(low, 1.0 - 1e-6)))
    return _normal(QUANTILE * room / width)


def _normal(z: Floats) -> Floats:
    """Cumulative normal distribution."""
    return np.array([0.5 * math.erfc(-value) for value in (z / math.sqrt(2.0)).tolist()])


_Work = Generator[list[Waiting], list[Floats], Figures | None]
"""The evaluation of a cell, which may wait for its pipelines."""


def _batches(cells: Iterable[Cell]) -> Iterator[list[Cell]]:
    """Cells in lists of about BATCH configurations."""
    batch: list[Cell] = []
    size = 0
    for cell in cells:
        batch.append(cell)
        size += cell.size
        if size >= BATCH or len(batch) >= MOST_CELLS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Evaluator:
    """Evaluates cells of a space.

    prune: do not time what does not fit: states alone exceed the memory, or the peak is far above it · impossible, ruled_out, slow: configurations
    that cannot be planned, that were left out so, and that were estimated one by one.
    """

    def __init__(self, space: Space, prune: bool = False) -> None:
        self.space, self.prune = space, prune
        self.impossible = self.ruled_out = self.slow = 0
        self.nearest: tuple[float, Choice, int, int] | None = None
        """Of what was ruled out the smallest: its memory at least [bytes], choice, accelerators and micro steps."""
        self.problems: dict[str, PlanError] = {}
        self._resolved: dict[object, Resolved | PlanError] = {}
        self._clocks: dict[str, Clock] = {}
        self._pieces: dict[object, Pieces | PlanError] = {}
        self._staged: Choice | None = None
        self._tables: dict[object, Any] = {}

    def figures(self, cells: Iterable[Cell]) -> Iterator[Figures]:
        """Figures of cells, in their order but for those that the engine refuses. Cells wait for the simulation of their pipelines."""
        for batch in _batches(cells):
            started: list[tuple[_Work, list[Waiting]] | Figures | None] = []
            for cell in batch:
                staged = cell.choice._replace(gpu="", virtual_pp=1, sharding="", offload="")
                if staged != self._staged:  # cells come trace by trace: what earlier ones shared is not needed again
                    self._staged, self._pieces = staged, {}
                work = self._cell(cell)
                try:
                    started.append((work, next(work)))
                except StopIteration as done:
                    started.append(done.value)
                except PlanError as error:
                    self.impossible += cell.size
                    self.problems.setdefault(error.field, error)
            known = totals(one for item in started if isinstance(item, tuple) for one in item[1])
            for item in started:
                if isinstance(item, Figures):
                    yield item
                if not isinstance(item, tuple):
                    continue
                work, waiting = item
                try:
                    work.send([known[one.key] for one in waiting])
                except StopIteration as done:
                    yield done.value

    def _cell(self, cell: Cell) -> _Work:
        plain = self._plain(cell)
        data = plain.run.data
        if data is not None and data.packing == "padded":  # lengths of batches depend on how many ranks wait for each other
            return self.one_by_one(cell)
        division = self.space.run.parallel
        if division.stages is not None or division.schedule not in (None, "1f1b", "interleaved"):  # played one by one
            return self.one_by_one(cell)
        shape = self._shape(plain)
        pieces = self._traced(plain, shape)
        r = _many(plain, cell.sites, cell.steps)
        if self.prune:
            small = self._small_enough(cell, r, shape, pieces)
            self.ruled_out += int(cell.allowed[~small].sum())
            if not small.any():
                return None
            if not small.all():
                cell = cell.rows(small)
                r = _many(plain, cell.sites, cell.steps)
        return (yield from self._figures(cell, plain, r, shape, pieces))

    def _small_enough(self, cell: Cell, r: Resolved, shape: Shape, pieces: Pieces) -> NDArray[np.bool_]:
        """Rows whose states, and what a forward is known to keep for its backward, leave room in the memory."""
        if r.usable_memory is None:
            return np.ones(len(cell.sites), dtype=bool)
        offload, shares = self._offload(cell, r), shares_of(r)
        first = _with_steps(r, np.ones(1, dtype=np.int64))
        spread = spread_of(r, shares)
        least = np.zeros(cell.allowed.shape)
        for piece in pieces.memory:
            books = books_of(first, piece.holdings, piece.step(r, shares, spread), shares, offload)
            kept = piece.kept.get(offload.activations, 0.0)
            more = (1.0 + piece.flying((cell.choice.virtual_pp, cell.steps.tobytes()), r)) * kept if kept > 0 else 0.0
            least = np.maximum(least, sum(books.values()) + more)
        margin = self.space.constraints.margin
        high = self._table(cell, r, shape)[2] if margin is None else 1.0
        room = (1.0 - (margin or 0.0)) * (r.usable_memory - context_of(r))
        reserved: Any = reserved_of(cast(float, least), r.stack.name)
        found = np.asarray(((reserved * high <= room) & cell.allowed).any(axis=1))
        self._remember(cell, np.where(cell.allowed & ~found[:, None], reserved, np.inf))
        return found

    def _remember(self, cell: Cell, reserved: Floats) -> None:
        """Keep the smallest of what was ruled out."""
        i, j = np.unravel_index(np.argmin(reserved), reserved.shape)
        if self.nearest is None or reserved[i, j] < self.nearest[0]:
            self.nearest = float(reserved[i, j]), cell.choice, cell.sites[int(i)].count, int(cell.steps[int(j)])

    # -- what the engine resolves ------------------------------------------------------------------------------------------------------------------

    def _plain(self, cell: Cell) -> Resolved:
        """The first run of a cell, resolved, with the cell's degrees."""
        c, site = cell.choice, cell.sites[0]
        several = int(cell.dp[0]) > 1
        key = (c.gpu, c.method, c.checkpointing, c.sharding, c.offload, several, c.cp > 1)
        known = self._resolved.get(key)
        if known is None:
            try:
                run = self.space.run_of(c, site.count, int(cell.steps[0]))
                known = resolve(run, self.space.profile_of(c.gpu))
            except PlanError as error:
                known = error
            self._resolved[key] = known
        if isinstance(known, PlanError):
            raise known
        parallel = Altered(
            known.run.parallel, tp=c.tp, pp=c.pp, cp=c.cp, ep=c.ep, virtual_pp=c.virtual_pp,
            sequence_parallel=c.sequence_parallel,
        )  # fmt: skip
        batch = Altered(known.run.batch, micro=c.micro, accumulation=int(cell.steps[0]))
        there = site.resolved
        return _altered(known, there, int(cell.dp[0]), parallel=parallel, batch=batch, hardware=there.run.hardware)

    def _shape(self, r: Resolved) -> Shape:
        text = r.run.batch.seq_len or 0
        key = ("shape", text, r.run.batch.micro, r.run.method)
        if key not in self._tables:
            self._tables[key] = shape_of(r.run, text, r.arch.sample_tokens(r.run.batch) - text)
        found: Shape = self._tables[key]
        return found

    def _traced(self, r: Resolved, shape: Shape) -> Pieces:
        p = r.run.parallel
        chunks = 1 if alike(r.arch, r.adaptation) else p.virtual_pp
        key = (r.formats, r.attention, r.fused_mixers, r.optimizer.name, r.head, p.sharding in ("zero3", "hsdp"), chunks)
        known = self._pieces.get(key)
        if known is None:
            plain = _altered(r, r, r.run.dp, parallel=Altered(p, virtual_pp=chunks))
            try:
                known = pieces_of(plain, shape, self._groups(plain))
            except PlanError as error:
                known = error
            self._pieces[key] = known
        if isinstance(known, PlanError):
            raise known
        if p.pp > 1:
            layers_of(p.pp, r.arch.layers, p.virtual_pp)
        return known

    def _groups(self, r: Resolved) -> NDArray[np.int64]:
        """Every number of ranks over which states of a trace may be divided."""
        p = r.run.parallel
        found = {1}
        for site in self.space.sites:
            replicas = site.count // (p.tp * p.cp * p.pp) * p.cp
            found |= {replicas, min(replicas, max(1, site.machine // p.tp))}
        return np.array(sorted(found - {0}), dtype=np.int64)

    def clock(self, r: Resolved, gpu: str) -> Clock:
        """Times of kernels on a device, remembered for all cells."""
        key = f"{gpu} {r.formats.scaled.recipe.name if r.formats.scaled is not None else ''}"
        if key not in self._clocks:
            self._clocks[key] = clock_of(r)
        return self._clocks[key]

    def _offload(self, cell: Cell, r: Resolved) -> Offload:
        """Offloading of a cell. Ranks of a machine share its memory: the bandwidth of each is a column where machines differ."""
        machines = [site.machine for site in cell.sites]
        kinds: dict[int, Offload] = {}
        for machine in dict.fromkeys(machines):
            key = ("offload", cell.choice.gpu, cell.choice.offload, r.run.method.name, machine)
            if key not in self._tables:
                hardware = Altered(r.run.hardware, gpus_per_node=machine)
                self._tables[key] = offload_of(_altered(r, r, r.run.dp, hardware=hardware))
            kinds[machine] = self._tables[key]
        first = kinds[machines[0]]
        if len(kinds) == 1 or not first.optimizer:
            return first
        return replace(first, memory=cast(float, np.array([[kinds[machine].memory] for machine in machines])))

    # -- figures -----------------------------------------------------------------------------------------------------------------------------------

    def _figures(self, cell: Cell, plain: Resolved, r: Resolved, shape: Shape, pieces: Pieces) -> _Work:
        offload, shares = self._offload(cell, r), shares_of(r)
        spread = spread_of(r, shares)
        steps = [piece.step(r, shares, spread) for piece in pieces.memory]
        peaks, away = self._peaks(r, cell, pieces, offload, steps)
        size = cell.allowed.shape
        stacked = np.stack([np.broadcast_to(peak, size) for peak in peaks])
        largest = np.argmax(stacked, axis=0)
        allocated = stacked.max(axis=0)
        reserved = np.asarray(reserved_of(allocated, r.stack.name))
        room = math.inf if r.usable_memory is None else r.usable_memory - context_of(r)
        if self.prune and reserved[cell.allowed].min() > NEAR * room:
            self._remember(cell, np.where(cell.allowed, reserved, np.inf))
            self.ruled_out += cell.size
            return None
        timing = yield from self._timing(cell, plain, shape, pieces, spread)
        paged = any(step.paged for step in steps)
        if offload.any or paged:
            usable = (r.usable_memory or math.inf) - context_of(r)
            timing = self._with_transfers(r, pieces, offload, steps, away, largest, stacked - usable, timing, shares.optimizer)
        seconds: Floats = np.broadcast_to(np.asarray(timing.total, dtype=np.float64), size)
        work = np.asarray(sum(v for (_, kind), v in timing.seconds.items() if kind in ("matmul", "attention")))
        return self._answers(cell, r, shape, seconds, work / seconds, reserved)

    def _peaks(
        self, r: Resolved, cell: Cell, pieces: Pieces, offload: Offload, steps: list[Any]
    ) -> tuple[list[Any], list[float]]:
        """Allocated peak of each kind of stage [bytes], and its saved tensors that go to the host [bytes]."""
        found, away = [], []
        c, first, dp = cell.choice, cell.steps == 1, cell.dp.tobytes()
        for piece, step in zip(pieces.memory, steps, strict=True):
            flying = piece.flying((c.virtual_pp, cell.steps.tobytes()), r)
            peak: Any = None
            kept = 0.0
            for many in (False, True):  # one micro step finds no gradients, the others may
                if not (first.any() if not many else (~first).any()):
                    continue
                key = (c.gpu, c.sharding, c.offload, many, dp)
                tide = piece.tides.get(key)
                if tide is None:
                    part = _with_steps(r, cell.steps[~first] if many else np.ones(1, dtype=np.int64))
                    tide = piece.tides[key] = _tide(part, piece, step, offload)
                kept = tide.away
                one = most(tide.peak + flying * tide.kept, tide.end)
                peak = one if peak is None else np.where(first, peak, one)
            found.append(peak)
            away.append(kept)
        return found, away

    def _timing(
        self, cell: Cell, plain: Resolved, shape: Shape, pieces: Pieces, spread: float
    ) -> Generator[list[Waiting], list[Floats], StepTime]:
        """Ledger of the step without transfers to the host: equal for all that is kept there."""
        key = (cell.choice._replace(offload=""), cell.dp.tobytes(), cell.steps.tobytes())
        parts = pieces.parts.get(key)
        if parts is None:
            parts = pieces.parts[key] = [
                _Part(self, cell, rows, plain, shape, pieces, spread) for rows in _machines(cell)
            ]
        if cell.choice.pp == 1:
            totals_of: list[Any] = [None] * len(parts)
        else:
            totals_of = yield [part.waiting for part in parts]
        known = pieces.ledgers.get(key)
        if known is None:
            answers = [(part.rows, part.ledger(total)) for part, total in zip(parts, totals_of, strict=True)]
            known = answers[0][1] if len(answers) == 1 else _joined(answers, cell.allowed.shape)
            pieces.ledgers[key] = known
        return known

    def _with_transfers(
        self, r: Resolved, pieces: Pieces, offload: Offload, steps: list[Any], away: list[float],
        largest: NDArray[np.int64], over: Floats, timing: StepTime, share: Any,
    ) -> StepTime:  # fmt: skip
        """With what offloading costs: the transfers of the stage that is fullest."""
        answers = []
        for i in sorted(set(largest.ravel().tolist())):
            one = StepTime()
            one.seconds.update({key: value + 0.0 for key, value in timing.seconds.items()})
            paged = sum(steps[i].paged.values())
            add_time(
                one, r, pieces.timed[i].stage.workload, offload, pieces.memory[i].trained, steps[i], share, away[i], over[i] + paged
            )  # fmt: skip
            answers.append((largest == i, one))
        return answers[0][1] if len(answers) == 1 else _chosen(answers, largest.shape)

    def _answers(
        self, cell: Cell, r: Resolved, shape: Shape, seconds: Floats, busy: Floats, reserved: Floats
    ) -> Figures:
        count, low, high = self._table(cell, r, shape)
        hours_of = r.run.hardware.gpus
        time = seconds * count
        key = ("rate", cell.choice.gpu)
        if key not in self._tables:
            self._tables[key] = hourly_rate(cell.sites[0].resolved)
        cost, energy = bill(r, self._tables[key], time * hours_of, busy)[:2]
        usable = None if r.usable_memory is None else r.usable_memory - context_of(r)
        if usable is None:
            fits = np.zeros(seconds.shape, dtype=np.int8)
        else:
            fits = np.where(reserved * high <= usable, 1, np.where(reserved > usable, -1, 0)).astype(np.int8)
        unknown = np.full(seconds.shape, np.nan)
        return Figures(
            cell, seconds, time, unknown if cost is None else cost, unknown if energy is None else energy,
            reserved, low, high, usable, fits,
        )  # fmt: skip

    def _table(self, cell: Cell, r: Resolved, shape: Shape) -> tuple[Floats, Floats, Floats]:
        """Steps of the run (or of one sample) and ratios of the memory interval, by row and column."""
        c = cell.choice
        key = ("table", c.gpu, c.micro, c.tp * c.pp * c.cp, c.cp, r.run.method.name, cell.dp.tobytes(), cell.steps.tobytes())
        known = self._tables.get(key)
        if known is None:
            counts = np.ones(cell.allowed.shape)
            low, high = np.ones((len(cell.sites), 1)), np.ones((len(cell.sites), 1))
            for i, (site, dp) in enumerate(zip(cell.sites, cell.dp.tolist(), strict=True)):
                facts = facts_of(_altered(r, r, dp, hardware=site.resolved.run.hardware), shape)
                memory = uncertainty.interval("memory", facts)
                low[i], high[i] = memory.low_ratio, memory.high_ratio
                for j, steps in enumerate(cell.steps.tolist()):
                    samples = c.micro * steps * dp
                    count = steps_of(r.run, shape, samples, round(samples * shape.real))
                    counts[i, j] = 1.0 / samples if count is None else count
            known = self._tables[key] = (counts, low, high)
        found: tuple[Floats, Floats, Floats] = known
        return found

    def one_by_one(self, cell: Cell) -> Figures:
        """The same figures from single estimates."""
        shape = cell.allowed.shape
        columns: dict[str, Floats] = {name: np.full(shape, np.nan) for name in ("seconds", "time", "cost", "energy", "reserved")}
        low, high = np.ones(shape), np.ones(shape)
        fits = np.zeros(shape, dtype=np.int8)
        usable = None
        for i, j in zip(*np.nonzero(cell.allowed), strict=True):
            run = self.space.run_of(cell.choice, cell.sites[i].count, int(cell.steps[j]))
            one = estimate(run, self.space.profile_of(cell.choice.gpu))
            for name, value in figures_of(one).items():
                columns[name][i, j] = np.nan if value is None else value
            low[i, j], high[i, j] = (bound / one.peak_reserved_bytes for bound in one.peak_memory_interval_bytes)
            fits[i, j] = 0 if one.fits is None else 1 if one.fits else -1
            usable = one.usable_memory_bytes
        self.slow += cell.size
        return Figures(cell, low=low, high=high, usable=usable, fits=fits, **columns)


def figures_of(one: Estimate, whole: bool = True) -> dict[str, float | None]:
    """The figures of a single estimate, in a search's terms. whole: of the whole run where it says data, else of one sample."""
    batch = one.run.batch.micro * one.run.batch.accumulation * one.run.dp
    seconds = one.step_time_s
    time, cost, energy = one.total_time_s, one.cost_usd, one.energy_kwh
    if (time is None or not whole) and seconds is not None:
        time = seconds / batch
        price, watts = one.details["price"], one.details["watts_per_gpu"]
        hours = time * one.run.hardware.gpus / 3600
        cost = None if price is None else hours * price["usd_per_gpu_hour"]
        energy = None if watts is None else hours * watts / 1000
    return {"seconds": seconds, "time": time, "cost": cost, "energy": energy, "reserved": one.peak_reserved_bytes}


def _times(ledger: StepTime, steps: Any) -> StepTime:
    """Seconds of so many micro steps."""
    result = StepTime()
    for key, value in ledger.seconds.items():
        result.seconds[key] = value * steps
    return result


def _joined(parts: list[tuple[NDArray[np.bool_], StepTime]], size: tuple[int, ...]) -> StepTime:
    """One ledger whose rows come from several, each of its own rows."""
    result = StepTime()
    for key in dict.fromkeys(key for _, timing in parts for key in timing.seconds):
        whole: Any = np.zeros(size)
        for rows, timing in parts:
            whole[rows] = timing.seconds.get(key, 0.0)
        result.seconds[key] = whole
    return result


def _chosen(answers: list[tuple[NDArray[np.bool_], StepTime]], size: tuple[int, ...]) -> StepTime:
    """One ledger whose elements come from the answer that holds there; a mask of rows stands for all columns."""
    result = StepTime()
    for key in dict.fromkeys(key for _, timing in answers for key in timing.seconds):
        whole: Any = np.zeros(size)
        for mask, timing in answers:
            where = np.broadcast_to(mask if mask.ndim == 2 else mask[:, None], size)
            whole[where] = np.broadcast_to(np.asarray(timing.seconds[key], dtype=np.float64), size)[where]
        result.seconds[key] = whole
    return result


def _tide(r: Resolved, piece: Piece, step: Step, offload: Offload) -> Live:
    """Live bytes with the books, on every row."""
    shares = shares_of(r)
    books = sum(books_of(r, piece.holdings, step, shares, offload).values())
    live = piece.live(persistent_of(r, {}, shares, offload))
    scratch = 0.0 if offload.optimizer else step.temporaries
    return Live(books + live.peak, live.kept, books + live.end + scratch, live.away)


class _Part:
    """Timing of the rows of a cell that have one kind of machine."""

    def __init__(
        self, evaluator: Evaluator, cell: Cell, rows: NDArray[np.bool_], plain: Resolved, shape: Shape, pieces: Pieces, spread: float
    ) -> None:
        sites = tuple(site for site, keep in zip(cell.sites, rows, strict=True) if keep)
        self.rows, self._pieces = rows, pieces
        self._r = r = _many(_altered(plain, sites[0].resolved, plain.run.dp, hardware=sites[0].resolved.run.hardware), sites, cell.steps)
        shares = shares_of(r)
        self._clock, self._ranks = evaluator.clock(r, cell.choice.gpu), ranks_of(r, shape.timed)
        gradients = [piece.gradients(r) for piece in pieces.memory]
        updated = max(range(len(gradients)), key=gradients.__getitem__)
        self._last = pieces.memory[updated].step(r, shares, spread), gradients[updated] * shares.optimizer
        device = (cell.choice.gpu, r.topology)
        self._beats = [piece.beat(device, self._clock, self._ranks) for piece in pieces.timed]
        sharded = self._ranks.sharding if self._ranks.sharding in ("zero3", "hsdp") else ""
        key = (device, sharded, cell.dp[rows].tobytes())
        self.waiting = pieces.waiting(key, self._beats, self._ranks.between, cell.steps, cell.choice.virtual_pp)

    def ledger(self, total: Floats | None) -> StepTime:
        """Seconds by phase and kind. total: of the pipelines [s], None without stages."""
        row: Any = self._r.run.batch.accumulation
        if total is None:
            timing = _times(self._beats[0].ledger, row)
            close_step(timing, self._pieces.timed[0].stage.workload, self._clock, self._ranks, row, *self._last)
            return timing
        busiest = self._pieces.busiest(self._beats)
        answers = []
        for i in sorted(set(busiest.tolist())):
            beat = self._beats[i]
            timing = _times(beat.ledger, row)
            timing.seconds["overhead", "bubble"] = cast(float, total - row * sum(beat.ledger.spans.values()))
            close_step(timing, self._pieces.timed[i].stage.workload, self._clock, self._ranks, row, *self._last)
            answers.append((busiest == i, timing))
        return answers[0][1] if len(answers) == 1 else _chosen(answers, total.shape)


def _machines(cell: Cell) -> list[NDArray[np.bool_]]:
    """Rows that have the same connections."""
    found: dict[object, list[int]] = {}
    for i, site in enumerate(cell.sites):
        found.setdefault(site.resolved.topology, []).append(i)
    masks = []
    for rows in found.values():
        mask = np.zeros(len(cell.sites), dtype=bool)
        mask[rows] = True
        masks.append(mask)
    return masks


class Altered:
    """An object of the run with some attributes replaced, by arrays where many runs are meant."""

    def __init__(self, base: Any, **changes: Any) -> None:
        self.__dict__.update(changes)
        self.__dict__["base"] = base

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["base"], name)


def _altered(r: Resolved, there: Resolved, dp: Any, **changes: Any) -> Resolved:
    """A resolved run with parts replaced, on the connections of another."""
    return replace(r, run=cast(Run, Altered(r.run, dp=dp, **changes)), topology=there.topology)


def _many(r: Resolved, sites: tuple[Site, ...], steps: NDArray[np.int64]) -> Resolved:
    """The run with a column of accelerators and a row of micro steps in place of the two numbers."""
    p = r.run.parallel
    counts: Any = np.array([site.count for site in sites], dtype=np.int64)[:, None].view(Several)
    if len(counts) == 1 and counts[0, 0] == 1:
        counts = 1
    hardware = Altered(r.run.hardware, gpus=counts)
    batch = Altered(r.run.batch, accumulation=steps[None, :].view(Several))
    return _altered(r, r, counts // (p.tp * p.pp * p.cp), hardware=hardware, batch=batch)


def _with_steps(r: Resolved, steps: NDArray[np.int64]) -> Resolved:
    return _altered(r, r, r.run.dp, batch=Altered(r.run.batch, accumulation=steps[None, :].view(Several)))
