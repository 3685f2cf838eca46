"""Figures of many configurations at once, equal to those of `estimate` one by one.

A cell's runs differ in accelerators and micro steps only. The engine's formulas get a run in which these two are arrays: a column of
data-parallel degrees, a row of micro steps. What does not depend on them comes from `Pieces`, once for a trace.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from planner.errors import PlanError
from planner.estimate import uncertainty
from planner.estimate.arrays import most
from planner.estimate.assemble import facts_of
from planner.estimate.engine import estimate
from planner.estimate.money import bill, hourly_rate
from planner.estimate.offload import Offload, add_time, offload_of
from planner.estimate.ranks import shares_of, whole_model
from planner.estimate.resolve import Resolved, resolve
from planner.estimate.shape import Shape, shape_of
from planner.estimate.stages import alike, layers_of
from planner.estimate.states import books_of, context_of, persistent_of, settled
from planner.estimate.step import clock_of
from planner.estimate.time import Clock, StepTime
from planner.estimate.verdict import reserved_of, steps_of
from planner.estimate.whole_run import checkpoint_bytes, course_of, forward_seconds
from planner.search.figures import Figures, figures_of
from planner.search.ledgers import Part, chosen, joined, machines_of
from planner.search.many import Altered, altered, many_of, with_steps
from planner.search.pieces import Floats, Live, Piece, Pieces, pieces_of, spread_of
from planner.search.schedules import Waiting, totals
from planner.search.space import Cell, Choice, Space
from planner.workload.optimizers import Step

BATCH, MOST_CELLS = 100_000, 2000
"""Configurations and cells that wait together."""
NEAR: Final = 1.25
"""Peaks up to this many times the usable memory are timed in a search, though they do not fit: to say what a little more memory would bring."""
NO_ARRAYS: Final = (AttributeError, TypeError, ValueError)
"""What a formula raises that does not take arrays: its cells are estimated one by one, and counted as slow."""

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
                except NO_ARRAYS:
                    started.append(self.one_by_one(cell))
            known = totals(one for item in started if isinstance(item, tuple) for one in item[1])
            for item in started:
                if isinstance(item, tuple):
                    work, waiting = item
                    try:
                        work.send([known[one.key] for one in waiting])
                    except StopIteration as done:
                        yield done.value
                elif item is not None:
                    yield item

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
        r = many_of(plain, cell.sites, cell.steps)
        if self.prune:
            small = self._small_enough(cell, r, shape, pieces)
            self.ruled_out += int(cell.allowed[~small].sum())
            if not small.any():
                return None
            if not small.all():
                cell = cell.rows(small)
                r = many_of(plain, cell.sites, cell.steps)
        return (yield from self._figures(cell, plain, r, shape, pieces))

    def _small_enough(self, cell: Cell, r: Resolved, shape: Shape, pieces: Pieces) -> NDArray[np.bool_]:
        """Rows whose states, and the activations that were seen to be there whatever the sharding, leave room in the memory."""
        if r.usable_memory is None:
            return np.ones(len(cell.sites), dtype=bool)
        offload, shares = self._offload(cell, r), shares_of(r)
        first = with_steps(r, np.ones(1, dtype=np.int64))
        spread = spread_of(r, shares)
        least = np.zeros(cell.allowed.shape)
        for piece in pieces.memory:
            books = books_of(first, piece.holdings, piece.step(r, shares, spread), shares, offload)
            passing, kept = piece.least.get(offload.activations, (0.0, 0.0))
            flying = piece.flying((cell.choice.virtual_pp, cell.steps.tobytes()), r) if kept else 0.0
            least = np.maximum(least, sum(books.values()) + passing + flying * kept)
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
        return altered(known, there, int(cell.dp[0]), parallel=parallel, batch=batch, hardware=there.run.hardware)

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
        key = (r.formats, r.attention, r.fused_mixers, r.optimizer.name, r.head, p.sharding in ("zero3", "hsdp"), r.profile.measured is None, chunks)
        known = self._pieces.get(key)
        if known is None:
            plain = altered(r, r, r.run.dp, parallel=Altered(p, virtual_pp=chunks))
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

    def _clock(self, r: Resolved, gpu: str) -> Clock:
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
                self._tables[key] = offload_of(altered(r, r, r.run.dp, hardware=hardware))
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
        return self._answers(cell, r, shape, seconds, work / seconds, forward_seconds(timing.seconds), reserved)

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
                    part = with_steps(r, cell.steps[~first] if many else np.ones(1, dtype=np.int64))
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
                Part(self._clock(plain, cell.choice.gpu), cell, rows, plain, shape, pieces, spread) for rows in machines_of(cell)
            ]
        if cell.choice.pp == 1:
            totals_of: list[Any] = [None] * len(parts)
        else:
            totals_of = yield [part.waiting for part in parts]
        known = pieces.ledgers.get(key)
        if known is None:
            answers = [(part.rows, part.ledger(total)) for part, total in zip(parts, totals_of, strict=True)]
            known = answers[0][1] if len(answers) == 1 else joined(answers, cell.allowed.shape)
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
        return answers[0][1] if len(answers) == 1 else chosen(answers, largest.shape)

    def _answers(
        self, cell: Cell, r: Resolved, shape: Shape, seconds: Floats, busy: Floats, forward: Any, reserved: Floats
    ) -> Figures:
        count, low, high = self._table(cell, r, shape)
        hours_of = r.run.hardware.gpus
        time = seconds * count
        if r.run.data is not None:
            tokens = np.round(cell.choice.micro * cell.steps[None, :] * cell.dp[:, None] * shape.real)
            machines = np.array([[site.resolved.run.hardware.machines] for site in cell.sites])
            course = course_of(r, self._saved(cell, r, shape), count, seconds, forward, tokens, hours_of, machines)
            time, busy = course.total, busy * course.busy
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
                facts = facts_of(altered(r, r, dp, hardware=site.resolved.run.hardware), shape)
                memory = uncertainty.interval("memory", facts)
                low[i], high[i] = memory.low_ratio, memory.high_ratio
                for j, steps in enumerate(cell.steps.tolist()):
                    samples = c.micro * steps * dp
                    count = steps_of(r.run, shape, samples, round(samples * shape.real))
                    counts[i, j] = 1.0 / samples if count is None else count
            known = self._tables[key] = (counts, low, high)
        found: tuple[Floats, Floats, Floats] = known
        return found

    def _saved(self, cell: Cell, r: Resolved, shape: Shape) -> float:
        """Bytes of a checkpoint: the same for every division of a model."""
        key = ("saved", cell.choice.gpu, cell.choice.method)
        if key not in self._tables:
            self._tables[key] = checkpoint_bytes(r, whole_model(r, shape.timed))
        return float(self._tables[key])

    def one_by_one(self, cell: Cell) -> Figures | None:
        """The same figures from single estimates; None where the engine refuses all."""
        shape = cell.allowed.shape
        columns: dict[str, Floats] = {name: np.full(shape, np.nan) for name in ("seconds", "time", "cost", "energy", "reserved")}
        low, high = np.ones(shape), np.ones(shape)
        fits = np.zeros(shape, dtype=np.int8)
        usable, refused = None, np.zeros(shape, dtype=bool)
        for i, j in zip(*np.nonzero(cell.allowed), strict=True):
            try:
                run = self.space.run_of(cell.choice, cell.sites[i].count, int(cell.steps[j]))
                one = estimate(run, self.space.profile_of(cell.choice.gpu))
            except PlanError as error:
                self.impossible += 1
                self.problems.setdefault(error.field, error)
                refused[i, j] = True
                continue
            for name, value in figures_of(one).items():
                columns[name][i, j] = np.nan if value is None else value
            low[i, j], high[i, j] = (bound / one.peak_reserved_bytes for bound in one.peak_memory_interval_bytes)
            fits[i, j] = 0 if one.fits is None else 1 if one.fits else -1
            usable = one.usable_memory_bytes
        cell = replace(cell, allowed=cell.allowed & ~refused)
        self.slow += cell.size
        return None if not cell.size else Figures(cell, low=low, high=high, usable=usable, fits=fits, **columns)


def _tide(r: Resolved, piece: Piece, step: Step, offload: Offload) -> Live:
    """Live bytes with the books, on every row."""
    shares = shares_of(r)
    books = sum(books_of(r, piece.holdings, step, shares, offload).values())
    live = piece.live(persistent_of(r, {}, shares, offload))
    scratch = 0.0 if offload.optimizer else step.temporaries
    gone = 0.0 if offload.frees_gradients else sum(settled(r, piece.holdings, shares))
    return Live(books + live.peak, live.kept, books + live.end + scratch - gone, live.away)
