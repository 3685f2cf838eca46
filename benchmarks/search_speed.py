"""How many configurations a second the search evaluates on one core, beside a loop over single estimates in the same run.

    python benchmarks/search_speed.py [seconds]

Llama-3.1-70B on 8 to 512 accelerators of two kinds, every degree free: micro batch, accumulation, checkpointing, sharding, tensor, pipeline,
context and sequence parallelism, chunks, offload. Traces of the model are taken in random order for the time given (30 s), with all their
configurations and nothing ruled out beforehand: each gets its memory, time, cost and energy. Then single estimates of some of the same
configurations are timed, and compared with what the arrays said. Rates are per second of processor time, and of wall time; the last line is
one JSON document.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SECONDS = 30.0
SINGLE_SECONDS = 8.0
RUN: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-70B",
    "stack": "torchtitan",
    "precision": "bf16-mixed",
    "batch": {"micro": 1, "accumulation": 8, "seq_len": 4096},
    "data": "10B",
}
GPUS = ("H100 SXM 80GB", "A100 SXM4 80GB")


def main(seconds: float) -> None:
    import numpy as np

    from planner import estimate
    from planner.run import parse_run
    from planner.search import Space
    from planner.search.evaluate import Evaluator
    from planner.search.figures import Figures, figures_of
    from planner.search.space import Cell, complete

    space = complete(Space(parse_run(RUN), gpus=GPUS, counts=tuple(range(8, 513, 8))))
    staged = [stage for trace in space.traces() for stage in space.stages(trace)]
    random.Random(0).shuffle(staged)
    started: list[int] = []
    start, cpu = time.perf_counter(), time.process_time()

    def cells() -> Iterator[Cell]:
        for one in staged:
            if time.perf_counter() - start > seconds:
                return
            started.append(1)
            yield from space.cells(one)

    evaluator = Evaluator(space)
    found: list[Figures] = list(evaluator.figures(cells()))
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    evaluated = sum(one.cell.size for one in found)

    choices = random.Random(1)
    single, worst = 0, 0.0
    single_wall, single_cpu = 0.0, 0.0
    while single_wall < SINGLE_SECONDS:
        one = choices.choice(found)
        i, j = choices.choice(list(zip(*np.nonzero(one.cell.allowed), strict=True)))
        run = space.run_of(one.cell.choice, one.cell.sites[i].count, int(one.cell.steps[j]))
        start, before = time.perf_counter(), time.process_time()
        answer = estimate(run)
        single_wall, single_cpu = single_wall + time.perf_counter() - start, single_cpu + time.process_time() - before
        single += 1
        for name, value in figures_of(answer).items():
            if value is not None:
                worst = max(worst, abs(getattr(one, name)[i, j] / value - 1.0))

    figures = {
        "configurations": evaluated,
        "refused_by_the_engine": evaluator.impossible,
        "traces": len(started),
        "traces_in_all": len(staged),
        "per_second_cpu": evaluated / cpu,
        "per_second_wall": evaluated / wall,
        "single_estimates": single,
        "single_per_second_cpu": single / single_cpu,
        "single_per_second_wall": single / single_wall,
        "times_faster_cpu": evaluated / cpu / (single / single_cpu),
        "largest_relative_difference": worst,
    }
    for name, value in figures.items():
        print(f"{name:30} {value:14.4g}" if isinstance(value, float) else f"{name:30} {value:14,}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS)
