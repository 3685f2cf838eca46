"""From steps to the whole run: waiting for data, evaluation, checkpoints, failures and restarts.

Work of W seconds is cut into k segments of τ with a checkpoint of δ between them; failures come at rate λ, and each costs a restart of R and
the work since the last checkpoint. The expected time of a segment is e^(λR) (e^(λ(τ+δ)) − 1) / λ (Daly 2006, "A higher order estimate of the
optimum checkpoint interval for restart dumps", eq. 20), and the best τ follows from the same paper, eq. 37, which for rare failures is Young's
(1974) sqrt(2 δ / λ). Every figure may be an array.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.catalog import default_network
from planner.estimate.arrays import most
from planner.estimate.ranks import whole_step
from planner.estimate.resolve import Resolved
from planner.estimate.states import stored_bytes
from planner.estimate.update import trained_parameters
from planner.units import DAY, GB
from planner.whole_run import STORAGE_GB_PER_S
from planner.workload import Workload

NEGLIGIBLE = 1e-3
"""Expected delays below this share of the run are no line of it, unless the run speaks of failures itself."""
HOPELESS = 30.0
"""Failures expected in one segment beyond which it practically never ends."""
WHOLE_MODEL = ("full", "freeze")
"""Methods whose checkpoints hold all weights; others save what they train and leave the base where it came from."""


@dataclass(frozen=True)
class Course:
    """How a whole run goes. Seconds of all parts add up to `total`; NaN where it practically never ends.

    steps, loading, evaluation, checkpoints, rework, restarts, startup [s] · failures: expected number · interval: work between checkpoints [s] ·
    written: checkpoints · checkpoint_bytes · write: of one checkpoint to storage [s] · stall: that training waits for it [s] · rate: [1/s].
    """

    steps: Any
    loading: Any
    evaluation: Any
    checkpoints: Any
    rework: Any
    restarts: Any
    startup: Any
    failures: Any
    interval: Any
    written: Any
    checkpoint_bytes: float
    write: Any
    stall: Any
    rate: Any

    @property
    def total(self) -> Any:
        """Seconds of the whole run."""
        return self.steps + self.loading + self.evaluation + self.checkpoints + self.rework + self.restarts + self.startup

    @property
    def busy(self) -> Any:
        """Share of the time in which accelerators compute [1]."""
        return (self.steps + self.evaluation + self.rework) / self.total

    @property
    def goodput(self) -> Any:
        """Share of the time in steps that count [1]."""
        return self.steps / self.total

    def parts(self) -> Iterable[tuple[str, Any]]:
        """Seconds by part, as they add up."""
        for name in ("steps", "loading", "evaluation", "checkpoints", "rework", "restarts", "startup"):
            yield name, getattr(self, name)


def forward_seconds(seconds: Mapping[tuple[str, str], Any]) -> Any:
    """Time of a step's forward passes with their share of communication and waiting [s]."""
    phases: dict[str, Any] = {}
    for (phase, _), value in seconds.items():
        phases[phase] = phases.get(phase, 0.0) + value
    alone = phases.get("forward", 0.0)
    computing = alone + phases.get("backward", 0.0) + phases.get("recompute", 0.0)
    beside = sum(value for phase, value in phases.items() if phase not in ("forward", "backward", "recompute", "optimizer"))
    return alone + beside * (alone / np.maximum(computing, 1e-30))


def checkpoint_bytes(r: Resolved, w: Workload) -> float:
    """What a restart needs: weights, fp32 masters and optimizer states of the undivided model [bytes]. Of a method that leaves its base alone, only
    what it trains."""
    everything = r.run.method.name in WHOLE_MODEL
    weights = sum(
        stored_bytes(r, p) * s.count for s in w.stretches for p in s.parameters if not p.buffer and (everything or p.trainable)
    )
    trained = trained_parameters(w)
    step = whole_step(r, trained, 1.0)
    masters = sum(4.0 * p.numel * n for p, n, _ in trained if not p.adapter) if r.formats.master else 0.0
    return float(weights + masters + sum(step.states.values()) + sum(step.paged.values()))


def course_of(r: Resolved, saved: float, steps: Any, step: Any, forward: Any, tokens: Any, gpus: Any, machines: Any) -> Course:
    """How the whole run goes.

    saved: bytes of a checkpoint · steps: of the run · step: time of one [s] · forward: that its forward passes take [s] · tokens of a step ·
    gpus, machines: of the run.
    """
    said, zero = r.run.whole_run, 0.0 * step
    working = steps * step
    loading, evaluation = zero, zero
    if said.loader_tokens_per_s is not None:
        loading = steps * most(0.0, tokens / said.loader_tokens_per_s - step)
    if said.eval_tokens is not None:
        times = 1 if said.eval_every is None else steps // said.eval_every
        evaluation = times * forward * said.eval_tokens / tokens
    work = working + loading + evaluation
    bandwidth = most(1.0, gpus / 8) * STORAGE_GB_PER_S * GB if said.storage_gb_per_s is None else said.storage_gb_per_s * GB
    write = saved / bandwidth + zero
    stall = _copied(r, saved, gpus) + zero if said.checkpoint_mode == "async" else write
    taken = (said.interruptions_per_machine_day or 0.0) * machines if r.run.price.spot else 0.0
    rate = (gpus * said.failure_rate + taken) / DAY + zero
    behind = write if said.checkpoint_mode == "async" else zero  # a checkpoint on its way is lost with the machine
    if said.checkpoint_every is not None:
        segments = steps // said.checkpoint_every
        interval = work / steps * said.checkpoint_every
        rest = most(0.0, work - segments * interval)
        written = segments + zero
    else:
        best = most(most(optimum(stall, rate), step), behind)  # not within a step, and not before the last one is written
        pieces = np.maximum(1.0, np.round(work / np.maximum(np.minimum(best, work), 1e-9)))
        interval = rest = work / pieces
        written = segments = pieces - 1.0
    restart = said.restart + behind
    expected = segments * expected_seconds(interval + stall, rate, restart) + expected_seconds(rest, rate, restart)
    checkpoints = written * stall
    failures = rate * expected
    restarts = failures * said.restart
    rework = most(0.0, expected - work - checkpoints - restarts)
    if not said.expects and not r.run.price.spot:
        counts = np.where(expected > work * (1 + NEGLIGIBLE), 1.0, 0.0)
        checkpoints, restarts, rework, written = (counts * value for value in (checkpoints, restarts, rework, written))
    startup = (said.startup_s or 0.0) + (said.warmup_s or 0.0) + zero
    return Course(working, loading, evaluation, checkpoints, rework, restarts, startup, failures, interval, written, saved, write, stall, rate)


def optimum(stall: Any, rate: Any) -> Any:
    """Best work between two checkpoints [s]: Daly's, 1/λ where a checkpoint takes longer than two mean times between failures.

    stall: of a checkpoint [s] · rate: failures [1/s]; without failures the answer is as long as any run.
    """
    mean = 1.0 / np.maximum(rate, 1e-18)
    x = np.sqrt(stall / (2.0 * mean))
    daly = np.sqrt(2.0 * stall * mean) * (1.0 + x / 3.0 + x * x / 9.0) - stall
    return np.where(stall < 2.0 * mean, np.maximum(daly, 1e-9), mean)


def expected_seconds(segment: Any, rate: Any, restart: Any) -> Any:
    """Expected time until a segment ends without a failure, restarts included [s]; NaN where it practically never does."""
    u = rate * segment
    fine = np.minimum(u, HOPELESS)
    grown = np.where(fine > 1e-12, np.expm1(fine) / np.maximum(fine, 1e-300), 1.0)
    never = (u > HOPELESS) | (rate * restart > HOPELESS)
    return np.where(never, np.nan, segment * grown * np.exp(np.minimum(rate * restart, HOPELESS)))


def _copied(r: Resolved, saved: float, gpus: Any) -> Any:
    """Time to copy a checkpoint to host memory [s]: every rank its shard, or those of one replica where states are not sharded."""
    link = default_network(r.accelerator).host_bandwidth if r.accelerator is not None else None
    p = r.run.parallel
    ranks = gpus if p.sharding in ("zero1", "zero2", "zero3", "hsdp") else p.tp * p.pp
    return saved / ranks / (link or 10 * GB)
