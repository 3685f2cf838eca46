"""Pipeline schedules: what every rank does in which order, and how many micro batches wait with their activations.

gpipe: all forwards, then all backwards (Huang et al. 2019, arXiv:1811.06965); with several chunks, chunk after chunk (breadth-first:
Lamy-Poirier 2022, arXiv:2211.05953). 1f1b: after a warm-up one forward and one backward in turn (Narayanan et al. 2021, arXiv:2104.04473,
fig. 4). interleaved: a rank holds several chunks of layers, so that the warm-up is as many times shorter (ibid., sec. 2.2). zero-bubble:
backward is cut into the gradients of activations, which the stage before waits for, and those of weights, which fill what would be bubbles
(ZB-H1, interleaved with several chunks: Qi et al. 2023, arXiv:2401.10241, sec. 3). zbv: the same with two chunks a rank, placed as a V, so
that the first rank also holds the last layers (ibid., sec. 6). dualpipev: forward and backward of two chunks placed as a V in turn
(DeepSeek-V3, arXiv:2412.19437, sec. 3.2.1, in the form of one V). Orders are those of torch.distributed.pipelining.schedules.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from planner.errors import PlanError
from planner.run import Parallel

Work = tuple[str, int, int]
"""(kind, chunk of the rank, micro batch): F forward, B backward, I its gradients of activations, W its gradients of weights."""

V_SHAPED: Final = ("zbv", "dualpipev")
"""Schedules whose second chunks run from the last rank back to the first."""
SPLIT: Final = ("zero-bubble", "zbv", "dualpipev")
"""Schedules that compute the gradients of weights apart."""


class Waiting(NamedTuple):
    """What a rank keeps beside the micro batch that it works on, in micro batches of a whole rank.

    blocks: activations of its layers · head: those of head and loss · block_weights, head_weights: what the weight gradients still need,
    where those of the activations are done.
    """

    blocks: float
    head: float = 0.0
    block_weights: float = 0.0
    head_weights: float = 0.0


def schedule_of(p: Parallel) -> str:
    """The run's schedule: 1f1b, or interleaved with several chunks, where it names none."""
    return p.schedule or ("interleaved" if p.virtual_pp > 1 else "1f1b")


def place_of(schedule: str, rank: int, chunk: int, ranks: int) -> int:
    """Position in the model of a chunk of a rank."""
    if schedule in V_SHAPED and chunk % 2:
        return (chunk + 1) * ranks - 1 - rank
    return chunk * ranks + rank


def check(schedule: str, ranks: int, chunks: int, micro: int) -> None:
    """Refuse what a schedule cannot do. Raises `PlanError`."""
    if schedule in V_SHAPED and chunks != 2:
        raise PlanError("parallel.virtual_pp", chunks, f"does not fit {schedule}, which has two chunks a stage", "Use 2, or leave it out.")
    if schedule == "1f1b" and chunks > 1:
        raise PlanError("parallel.schedule", schedule, f"has one chunk a stage, not {chunks}", "Use interleaved, or virtual_pp: 1.")
    if schedule == "interleaved" and chunks == 1:
        raise PlanError("parallel.schedule", schedule, "needs several chunks a stage", "Use virtual_pp above 1, or 1f1b.")
    if schedule in ("interleaved", "zero-bubble") and micro % max(1, micro // ranks):
        raise PlanError(
            "batch.accumulation",
            micro,
            f"cannot be cut into equal rounds for the {ranks} stages of an {schedule} schedule",
            f"Use a multiple of {ranks}, or another schedule.",
        )
    if schedule == "dualpipev" and micro < 2 * ranks:
        raise PlanError("batch.accumulation", micro, f"is too few for dualpipev over {ranks} stages", f"Use at least {2 * ranks}.")


def order_of(schedule: str, rank: int, ranks: int, chunks: int, micro: int) -> list[Work]:
    """What a rank does, in order."""
    if schedule == "gpipe":
        forward = [("F", chunk, i) for chunk in range(chunks) for i in range(micro)]
        backward = [("B", chunk, i) for chunk in reversed(range(chunks)) for i in range(micro)]
        return forward + (backward if chunks == 1 else [("B", c, micro - 1 - i) for _, c, i in backward])
    if schedule == "zbv":
        return list(_v_order(rank, ranks, micro))
    if schedule == "dualpipev":
        return list(_dual_order(rank, ranks, micro))
    return list(_one_by_one(schedule, rank, ranks, chunks, micro))


def warm_up(schedule: str, rank: int, ranks: int, chunks: int, micro: int) -> int:
    """Forwards of one chunk before the first backward, in schedules of one forward and one backward in turn."""
    if schedule == "1f1b":
        return min(micro, ranks - rank - 1)
    group = micro // max(1, micro // ranks)
    hops = 2 if schedule == "interleaved" else 1
    return min(micro * chunks, (ranks - rank - 1) * hops + (chunks - 1) * group)


def _one_by_one(schedule: str, rank: int, ranks: int, chunks: int, micro: int) -> Iterator[Work]:
    """1f1b, interleaved, and ZB-H1: in the last, weight gradients start as many backwards late as there are ranks in front."""
    total, warm = micro * chunks, warm_up(schedule, rank, ranks, chunks, micro)
    group = micro // max(1, micro // ranks)
    split, late = schedule == "zero-bubble", rank
    forwards = [_nth(i, group, chunks, forward=True) for i in range(total)]
    backwards = [_nth(i, group, chunks, forward=False) for i in range(total)]
    for i in range(warm):
        yield "F", *forwards[i]
    for i in range(total):
        if warm + i < total:
            yield "F", *forwards[warm + i]
        yield "I" if split else "B", *backwards[i]
        if split and i >= late:
            yield "W", *backwards[i - late]
    for i in range(max(0, total - late) if split else total, total):
        yield "W", *backwards[i]


def _nth(i: int, group: int, chunks: int, *, forward: bool) -> tuple[int, int]:
    """(chunk, micro batch) of the i-th forward or backward of a rank: chunk after chunk, in groups of micro batches."""
    if chunks == 1:
        return 0, i
    turn, inside = divmod(i, group * chunks)
    chunk, offset = divmod(inside, group)
    return (chunk if forward else chunks - 1 - chunk), turn * group + offset


def _v_order(rank: int, ranks: int, micro: int) -> Iterator[Work]:
    """ZB-V. Too few micro batches to fill the pipeline are those of a filled one, less what does not exist."""
    count = [{"F": 0, "I": 0, "W": 0} for _ in range(2)]
    filled = max(2 * ranks - 1, micro)

    def go(kinds: str, chunk: int) -> Iterator[Work]:
        for kind in kinds:
            i = count[chunk][kind]
            count[chunk][kind] += 1
            if i < micro:
                yield kind, chunk, i

    for _ in range(2 * (ranks - rank) - 1):
        yield from go("F", 0)
    for _ in range(rank):
        yield from go("F", 1)
        yield from go("F", 0)
    for _ in range(ranks - rank):
        yield from go("FIW", 1)
    while count[1]["F"] < count[0]["F"] or count[0]["F"] < filled:
        if count[0]["F"] < filled:
            yield from go("F", 0)
        yield from go("IW", 0)
        yield from go("FIW", 1)
    for _ in range(rank):
        yield from go("I", 0)
        yield from go("I", 1)
    for _ in range(ranks - rank):
        yield from go("IW", 0)
    for chunk in (1, 0):
        while count[chunk]["W"] < count[chunk]["I"]:
            yield from go("W", chunk)


def _dual_order(rank: int, ranks: int, micro: int) -> Iterator[Work]:
    """DualPipeV. A forward and a backward that run side by side stand one after the other: together they take the time of both."""
    counts = {(kind, chunk): 0 for kind in "FI" for chunk in range(2)}
    pending: list[tuple[int, int]] = []

    def go(kind: str, chunk: int) -> Iterator[Work]:
        if kind == "W":
            if pending:
                yield "W", *pending.pop(0)
            return
        key = "F" if kind == "F" else "I", chunk
        if kind == "I":
            pending.append((chunk, counts[key]))
        yield kind, chunk, counts[key]
        counts[key] += 1

    for _ in range(2 * (ranks - rank - 1)):
        yield from go("F", 0)
    for _ in range(rank + 1):
        yield from go("F", 0)
        yield from go("F", 1)
    for _ in range(ranks - rank - 1):
        yield from go("I", 1)
        yield from go("W", 1)
        yield from go("F", 1)
    for _ in range(micro - 2 * ranks + rank + 1):
        yield from go("F", 0)
        yield from go("B", 1)
        yield from go("F", 1)
        yield from go("B", 0)
    for _ in range(ranks - rank - 1):
        yield from go("B", 1)
        yield from go("F", 1)
        yield from go("B", 0)
    apart = False
    for i in range(rank + 1):
        half = i == (rank + 1) // 2
        apart = apart or (half and rank % 2 == 1)
        yield from go("I" if apart else "B", 1)
        apart = apart or (half and rank % 2 == 0)
        yield from go("I" if apart else "B", 0)
    for _ in range(ranks - rank - 1):
        yield from go("W", 0)
        yield from go("I" if apart else "B", 0)
    for _ in range(rank + 1):
        yield from go("W", 0)


@lru_cache(maxsize=4096)
def waiting(schedule: str, rank: int, ranks: int, shares: tuple[float, ...], micro: int) -> tuple[Waiting, ...]:
    """What a rank keeps at most beside a running micro batch: one entry, or several of which none is below another.

    shares: part of the rank's layers in each of its chunks; they sum to 1.
    """
    chunks, every = len(shares), micro // ranks
    if schedule == "gpipe":
        return (Waiting(micro - 1.0, micro - 1.0),)
    if every > 4:  # the steady state repeats
        micro = 4 * (micro // every if micro % every == 0 and chunks > 1 else ranks)
    last = next((c for c in range(chunks) if place_of(schedule, rank, c, ranks) == chunks * ranks - 1), None)
    full, weights = [0] * chunks, [0] * chunks
    found: set[Waiting] = set()
    for kind, chunk, _ in order_of(schedule, rank, ranks, chunks, micro):
        if kind == "F":
            full[chunk] += 1
        if kind != "W":
            blocks = sum(n * share for n, share in zip(full, shares, strict=True)) - 1.0
            later = sum(n * share for n, share in zip(weights, shares, strict=True))
            head, head_later = (full[last] - 1.0, float(weights[last])) if last is not None else (0.0, 0.0)
            found.add(Waiting(max(0.0, blocks), max(0.0, head), later, head_later))
        if kind in "BI":
            full[chunk] -= 1
        if kind in "IW":
            weights[chunk] += 1 if kind == "I" else -1
    return tuple(w for w in found if not any(o != w and all(a >= b for a, b in zip(o, w, strict=True)) for o in found))
