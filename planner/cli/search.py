"""`planner search RUN`: the best configuration under constraints."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from planner import units
from planner.cli.inputs import add_json, add_run, read_profile, read_run
from planner.cli.output import bold, emit_json, printable, table, wrapped
from planner.errors import PlanError
from planner.estimate.result import Estimate
from planner.search.constraints import OBJECTIVES
from planner.search.space import CHECKPOINTING, OFFLOADS, SHARDINGS
from planner.summary import degrees, global_batch

NAME = "search"
HELP = "the best configuration under constraints: GPUs, degrees, sharding, batch, deadline, budget"
DESCRIPTION = (
    "Looks at every combination of GPU, number of GPUs, micro batch, accumulation, checkpointing, sharding, tensor, pipeline, context and expert "
    "parallelism and offload, and answers with the best under the constraints and with what no other configuration beats."
)
MOST_COUNTS = 4096
_NUMBERS = ("micro", "accumulation", "tp", "pp", "cp", "ep", "virtual_pp")
_WORDS = {"sharding": SHARDINGS, "checkpointing": CHECKPOINTING, "offload": OFFLOADS}


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    add_run(command)
    command.add_argument("--gpu", metavar="NAME", nargs="+", action="extend", default=[], help="accelerators on offer; the run's own when left out")
    command.add_argument("--gpus", metavar="N-M", help="numbers of accelerators: 1-64, or 8,16,32. The run's own when left out")
    command.add_argument("--deadline", metavar="TIME", help="longest time of the whole run, such as 24h or 3d")
    command.add_argument("--budget", metavar="USD", help="largest cost of the whole run")
    command.add_argument("--min-batch", metavar="N", help="sequences of a global batch, at least; the run's own when left out")
    command.add_argument("--max-batch", metavar="N", help="sequences of a global batch, at most")
    command.add_argument("--margin", metavar="SHARE", help="share of the memory that stays free; left out, the whole 90 %% interval of the peak must fit")
    command.add_argument("--objective", choices=OBJECTIVES, help="what to minimise; left out: cost under a deadline alone, else time")
    command.add_argument("--method", metavar="NAME", nargs="+", action="extend", default=[], help="methods that are allowed; the run's own when left out")
    rented = "providers to rent from, the cheapest of them for every accelerator; the catalogue's middle price when left out"
    command.add_argument("--provider", metavar="NAME", nargs="+", action="extend", default=[], help=rented)
    for name in (*_NUMBERS, *_WORDS):
        command.add_argument(f"--{name.replace('_', '-')}", metavar="LIST", help=f"only these values of {name.replace('_', ' ')}, such as {_example(name)}")
    spread = "search on a Ray cluster: its address, or none to start one on this machine (needs ray[default])"
    command.add_argument("--ray", metavar="ADDRESS", nargs="?", const="", help=spread)
    command.add_argument("--patience", metavar="TIME", help="stop after this time and say what was left out")
    add_json(command)


def _example(name: str) -> str:
    return ",".join(_WORDS[name][1:3]) if name in _WORDS else "1,2,4"


def execute(options: argparse.Namespace) -> None:
    """Search and print."""
    from planner.search import Constraints, Space, search

    run, profile = read_run(options.run), read_profile(options.profile)
    limits = Constraints(
        deadline=None if options.deadline is None else units.parse_duration(options.deadline, "deadline"),
        budget=None if options.budget is None else units.parse_usd(options.budget, "budget"),
        min_batch=None if options.min_batch is None else units.parse_count(options.min_batch, "min-batch"),
        max_batch=None if options.max_batch is None else units.parse_count(options.max_batch, "max-batch"),
        margin=None if options.margin is None else units.parse_number(options.margin, "margin"),
        objective=options.objective,
    )
    values: dict[str, Any] = {name: _counts(text, name) for name in _NUMBERS if (text := getattr(options, name)) is not None}
    values |= {name: _words(text, name) for name in _WORDS if (text := getattr(options, name)) is not None}
    space = Space(
        run,
        gpus=_gpus(options.gpu),
        counts=_counts(options.gpus, "gpus") if options.gpus is not None else (),
        methods=_methods(options.method),
        providers=tuple(name.strip().casefold() for name in options.provider),
        constraints=limits,
        profile=profile,
        **values,
    )
    patience = None if options.patience is None else units.parse_duration(options.patience, "patience")
    shown = sys.stderr.isatty() and not options.json
    told = _progress if shown else None
    if options.ray is None:
        found = search(space, told, patience=patience)
    else:
        from planner.search.cluster import search_on_ray

        found = search_on_ray(space, options.ray or None, told, patience)
    if shown:
        print("\r\x1b[K", end="", file=sys.stderr)
    if options.json:
        emit_json(found.document())
        return
    speed = found.evaluated / found.seconds if found.seconds else 0.0
    blocks = [
        bold(f"{found.evaluated:,} configurations in {units.format_seconds(found.seconds)} ({units.significant(speed, 2)} a second)")
        + (f"; {found.impossible:,} more cannot be planned" if found.impossible else "")
    ]
    blocks.append("\n".join(wrapped(text, bullet="- ") for text in found.reasons))
    if found.pareto:
        blocks.append(f"{bold('No other configuration is better in time, cost, energy and risk than these')}\n{_table(found.pareto)}")
    if found.left_out:
        blocks.append(f"{bold('Left out')}\n" + "\n".join(wrapped(text, bullet="- ") for text in found.left_out))
    print("\n\n".join(blocks))


def _progress(share: float, evaluated: int) -> None:
    print(f"\r{share:4.0%}  {evaluated:,} configurations", end="", file=sys.stderr, flush=True)


def _gpus(names: list[str]) -> tuple[str, ...]:
    from planner.catalog import find_accelerator

    return tuple(dict.fromkeys(find_accelerator(name, "gpu").name for name in names))


def _methods(names: list[str]) -> tuple[Any, ...]:
    from planner.run import parse_run

    return tuple(parse_run({"model": "gpt2", "method": name}).method for name in dict.fromkeys(names))


def _counts(text: str, name: str) -> tuple[int, ...]:
    """Whole numbers of "1-64" or "1,2,4" or both."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        low = units.parse_count(first.strip(), name)
        high = units.parse_count(last.strip(), name) if dash else low
        if high < low:
            raise PlanError(name, part.strip(), "is an empty range", f"Write {high}-{low}.")
        if high - low >= MOST_COUNTS:
            raise PlanError(name, part.strip(), f"is a range of more than {MOST_COUNTS} numbers", "Give single numbers: 64,128,256.")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def _words(text: str, name: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",") if part.strip()))
    for word in chosen:
        if word not in _WORDS[name]:
            raise PlanError(name, word, "is not a possible value", f"Use {', '.join(_WORDS[name])}.")
    if not chosen:
        raise PlanError(name, text, "names nothing", f"Use {', '.join(_WORDS[name])}.")
    return chosen


def _table(estimates: tuple[Estimate, ...]) -> str:
    rows = [("", "time", "cost", "energy", "memory", "batch", "configuration")]
    for one in estimates:
        data = one.total_time_s is not None
        rows.append(
            (
                f"{one.run.hardware.gpus} × {printable(one.details['accelerator'])}",
                units.format_seconds(one.total_time_s if data else one.step_time_s) + ("" if data else " a step"),
                units.format_usd(one.cost_usd),
                units.format_energy(one.energy_kwh),
                units.format_bytes(one.peak_reserved_bytes),
                str(global_batch(one.run)),
                degrees(one),
            )
        )
    return table(rows, right=(1, 2, 3, 4, 5), header=True)
