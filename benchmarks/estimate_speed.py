"""How quick an estimate is, and what it grows with.

    python benchmarks/estimate_speed.py

Absolute times depend on the machine, ratios hardly: more layers and more GPUs must not make an estimate slower, since identical layers
and identical ranks are worked out once. Every figure is the median of repeated calls in this run, after one warm call. Import times are
those of new interpreters, beside one that imports only `json`. The last line is one JSON document.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

REPEATS = 21


def median_seconds(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median duration of a call after one warm one [s]."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def interpreter_seconds(statement: str) -> float:
    """Median wall time of a new interpreter that runs one statement [s]."""
    return median_seconds(lambda: subprocess.run([sys.executable, "-c", statement], check=True, cwd=ROOT), 5)


def run_of(layers: int, gpus: int) -> Any:
    """A Llama-3.1-8B block repeated `layers` times, states fully sharded where there are several `gpus`."""
    from planner import Run
    from planner.catalog import find_model

    config = find_model("meta-llama/Llama-3.1-8B").config | {"num_hidden_layers": layers}
    return Run.model_validate(
        {
            "model": config,
            "precision": "bf16-mixed",
            "hardware": {"gpu": "H100 SXM 80GB", "gpus": gpus},
            "parallel": {"sharding": "zero3" if gpus > 1 else "none"},
            "batch": {"seq_len": 4096},
            "activation_checkpointing": "full",
            "data": "1B",
        }
    )


def main() -> None:
    baseline = interpreter_seconds("import json")
    package = interpreter_seconds("import planner")
    engine = interpreter_seconds("from planner import Run, estimate, load_profile")

    from planner import estimate

    start = time.perf_counter()
    estimate(run_of(32, 8))
    first = time.perf_counter() - start
    runs = {(layers, gpus): run_of(layers, gpus) for layers, gpus in ((32, 8), (96, 8), (32, 1), (32, 1024))}
    seconds = {key: median_seconds(lambda run=run: estimate(run)) for key, run in runs.items()}  # type: ignore[misc]

    figures = {
        "first_estimate_ms": 1e3 * first,
        "warm_estimate_ms": 1e3 * seconds[32, 8],
        "ratio_96_to_32_layers": seconds[96, 8] / seconds[32, 8],
        "ratio_1024_to_1_gpus": seconds[32, 1024] / seconds[32, 1],
        "import_json_ms": 1e3 * baseline,
        "import_planner_over_json_ms": 1e3 * (package - baseline),
        "import_engine_over_json_ms": 1e3 * (engine - baseline),
    }
    for name, value in figures.items():
        print(f"{name:30} {value:9.2f}")
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
