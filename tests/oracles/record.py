"""Write the truths that the tests read: ``python -m tests.oracles.record [KIND ...] [--only TEXT | --new | --check N]``.

Each file of tests/oracles/data holds the versions it was made with, the configs, and one row per case: the arguments of
the oracle and its answer. A test asks the engine the same question and compares.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.oracles import cases, checkpoints, float8, flops, memory, offloaded, optimizers, parameters, structure_cases
from tests.oracles.published import PUBLISHED

DATA = Path(__file__).parent / "data"


def load(kind: str) -> dict[str, Any]:
    """The recorded truths of `kind`: ``versions``, ``configs`` and ``cases`` (``id``, ``arguments``, ``truth``)."""
    return json.loads((DATA / f"{kind}.json").read_text())  # type: ignore[no-any-return]


def recorded() -> list[str]:
    """Names of all files of truths."""
    return sorted(path.stem for path in DATA.glob("*.json"))


def _parameters(config: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, int]:
    return parameters.count(config, arguments["head"], arguments["method"])


def _published() -> Iterable[dict[str, Any]]:
    for name, config in PUBLISHED.items():
        head = "masked-lm" if config["model_type"] in ("bert", "roberta") else None
        for method in (None, {"name": "lora", "rank": 16, "targets": "all-linear"}):
            yield {"config": name, "head": head, "method": method}


Kind = tuple[Callable[[], Iterable[dict[str, Any]]], Callable[..., Any], Mapping[str, Any]]
"""What makes the cases, the oracle that answers (config, arguments), and the configs by name."""


def _area(module: Any, prefix: str) -> dict[str, Kind]:
    """Kinds of an area: a module with `parameter_cases`, `flop_cases` or `memory_cases`, and the CONFIGS that they name."""
    configs = {**cases.CONFIGS, **getattr(module, "CONFIGS", {})}
    kinds = {
        "parameters": ("parameter_cases", _parameters),
        "flops": ("flop_cases", lambda config, arguments: flops.measure(config, **arguments)),
        "memory": ("memory_cases", lambda config, arguments: memory.measure(config, **arguments)),
    }
    return {
        prefix + kind: (getattr(module, make), measure, configs)
        for kind, (make, measure) in kinds.items()
        if hasattr(module, make)
    }


def _areas() -> dict[str, Kind]:
    """Every module named `<area>_cases`."""
    found: dict[str, Kind] = {}
    for path in sorted(Path(__file__).parent.glob("*_cases.py")):
        found |= _area(import_module(f"tests.oracles.{path.stem}"), path.stem.removesuffix("cases").replace("_", "-"))
    return found


KINDS: dict[str, Kind] = {
    **_area(cases, ""),
    "parameters": (
        lambda: [*cases.parameter_cases(), *_published()],
        _parameters,
        {**cases.CONFIGS, **PUBLISHED},
    ),
    "optimizers": (
        optimizers.cases,
        lambda config, arguments: optimizers.measure(config, **arguments),
        cases.CONFIGS,
    ),
    "float8-memory": (float8.cases, lambda config, arguments: float8.measure(config, **arguments), cases.CONFIGS),
    "checkpoint-memory": (
        checkpoints.cases,
        lambda config, arguments: checkpoints.measure(config, **arguments),
        cases.CONFIGS,
    ),
    "offload-memory": (offloaded.cases, lambda config, arguments: offloaded.measure(config, **arguments), cases.CONFIGS),
    "structure": (structure_cases.structures, structure_cases.measure, structure_cases.STRUCTURES),
    **_areas(),
}


def record(kind: str, only: str | None = None, seconds: float = float("inf")) -> int:
    """Run the cases of `kind` and write its file; the number of cases run.

    With `only`, cases whose id lacks that text keep the truth that the file already holds; with an empty text all do, so that
    only new cases are run. seconds: after that time the cases that are left wait for another call [s].
    """
    make, measure, configs = KINDS[kind]
    known = {row["id"]: row for row in load(kind)["cases"]} if only is not None and kind in recorded() else {}
    stop = time.perf_counter() + seconds
    rows: dict[str, dict[str, Any]] = {}
    taken = 0
    for case in make():
        arguments = {key: value for key, value in case.items() if key != "config"}
        name = cases.identity(case)
        if name in known and (not only or only not in name):
            rows[name] = known[name]
            continue
        if time.perf_counter() > stop:
            continue
        truth = measure(configs[case["config"]], arguments)
        taken += 1
        rows[name] = {"id": name, "config": case["config"], "arguments": arguments, "truth": truth}
    _write(kind, rows, configs)
    return taken


def differing(kind: str, every: int) -> tuple[int, list[str]]:
    """Take each `every`-th case anew with the installed libraries: how many, and those whose truth is no longer what the file holds."""
    _, measure, configs = KINDS[kind]
    rows = [row for row in load(kind)["cases"] if row["config"] in configs][::every]
    wrong = [row["id"] for row in rows if measure(configs[row["config"]], row["arguments"]) != row["truth"]]
    return len(rows), wrong


def _write(kind: str, rows: Mapping[str, Mapping[str, Any]], configs: Mapping[str, Any]) -> None:
    import peft
    import torch
    import transformers

    used = {row["config"] for row in rows.values()}
    document = {
        "versions": optimizers.versions()
        if kind in ("optimizers", "float8-memory")
        else {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
        "configs": {name: config for name, config in configs.items() if name in used},
        "cases": list(rows.values()),
    }
    DATA.mkdir(exist_ok=True)
    (DATA / f"{kind}.json").write_text(_compact(document))


def _compact(document: Mapping[str, Any]) -> str:
    """JSON with one config and one case a line, so that a change shows as the lines that changed."""
    configs = ",\n".join(f"{json.dumps(name)}: {json.dumps(config)}" for name, config in document["configs"].items())
    rows = ",\n".join(json.dumps(row) for row in document["cases"])
    versions = json.dumps(document["versions"])
    return f'{{"versions": {versions},\n"configs": {{\n{configs}\n}},\n"cases": [\n{rows}\n]}}\n'


def main() -> None:
    """Record the kinds named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="default: all")
    parser.add_argument("--only", metavar="TEXT", help="take anew only cases whose id contains TEXT")
    parser.add_argument("--new", dest="only", action="store_const", const="", help="take only cases without a truth")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time; --new goes on")
    parser.add_argument("--check", type=int, metavar="N", help="write nothing: take each N-th case anew and compare")
    arguments = parser.parse_args()
    wrong = 0
    for kind in arguments.kinds or KINDS:
        start = time.perf_counter()
        if arguments.check:
            try:
                taken, names = differing(kind, arguments.check)
            except ModuleNotFoundError as error:
                print(f"{kind}: skipped, {error.name} is not installed")
                continue
            wrong += len(names)
            print(f"{kind}: {taken} cases in {time.perf_counter() - start:.0f} s, {len(names)} differ", *names, sep="\n  ", flush=True)
            continue
        taken = record(kind, arguments.only, arguments.seconds)
        print(f"{kind}: {taken} cases in {time.perf_counter() - start:.0f} s")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
