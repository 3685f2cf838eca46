"""Write the truths that the tests read: ``python -m tests.oracles.record [KIND ...] [--only TEXT]``.

Each file of tests/oracles/data holds the versions it was made with, the configs, and one row per case: the arguments of
the oracle and its answer. A test asks the engine the same question and compares.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.oracles import (
    cases,
    checkpoints,
    float8,
    flops,
    memory,
    optimizers,
    parameters,
    sequence_cases,
    vision_cases,
)
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


KINDS: dict[str, tuple[Callable[[], Iterable[dict[str, Any]]], Callable[..., Any]]] = {
    "parameters": (lambda: [*cases.parameter_cases(), *_published()], _parameters),
    "flops": (cases.flop_cases, lambda config, arguments: flops.measure(config, **arguments)),
    "memory": (cases.memory_cases, lambda config, arguments: memory.measure(config, **arguments)),
    "sequence-parameters": (sequence_cases.parameter_cases, _parameters),
    "sequence-flops": (sequence_cases.flop_cases, lambda config, arguments: flops.measure(config, **arguments)),
    "optimizers": (optimizers.cases, lambda config, arguments: optimizers.measure(config, **arguments)),
    "float8-memory": (float8.cases, lambda config, arguments: float8.measure(config, **arguments)),
    "checkpoint-memory": (checkpoints.cases, lambda config, arguments: checkpoints.measure(config, **arguments)),
    "vision-parameters": (vision_cases.parameter_cases, _parameters),
    "vision-flops": (vision_cases.flop_cases, lambda config, arguments: flops.measure(config, **arguments)),
    "vision-memory": (vision_cases.memory_cases, lambda config, arguments: memory.measure(config, **arguments)),
    "sequence-memory": (sequence_cases.memory_cases, lambda config, arguments: memory.measure(config, **arguments)),
}


def record(kind: str, only: str | None = None) -> int:
    """Run the cases of `kind` and write its file; the number of cases run.

    With `only`, cases whose id lacks that text keep the truth that the file already holds.
    """
    import peft
    import torch
    import transformers

    make, measure = KINDS[kind]
    configs = {**cases.CONFIGS, **(PUBLISHED if kind == "parameters" else {})}
    if kind.startswith("vision-"):
        configs = vision_cases.CONFIGS
    known = {row["id"]: row for row in load(kind)["cases"]} if only is not None else {}
    rows: dict[str, dict[str, Any]] = {}
    taken = 0
    for case in make():
        arguments = {key: value for key, value in case.items() if key != "config"}
        name = cases.identity(case)
        if only is not None and only not in name and name in known:
            rows[name] = known[name]
            continue
        truth = measure(configs[case["config"]], arguments)
        taken += 1
        rows[name] = {"id": name, "config": case["config"], "arguments": arguments, "truth": truth}
    document = {
        "versions": optimizers.versions()
        if kind in ("optimizers", "float8-memory")
        else {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__},
        "configs": configs,
        "cases": list(rows.values()),
    }
    DATA.mkdir(exist_ok=True)
    (DATA / f"{kind}.json").write_text(_compact(document))
    return taken


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
    arguments = parser.parse_args()
    for kind in arguments.kinds or KINDS:
        start = time.perf_counter()
        taken = record(kind, arguments.only)
        print(f"{kind}: {taken} cases in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
