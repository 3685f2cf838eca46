"""docs/coverage.md: what is covered, against which oracle it was checked, and how far off the engine is there.

Every recorded truth is asked of the engine again, so that the document cannot say more than the tests see.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field

from planner.workload.families import FAMILIES
from planner.workload.methods import METHODS
from planner.workload.methods.unplanned import UNPLANNED
from tests import recorded
from tests.oracles import record

_FROZEN = "the model with `requires_grad` set"
_FOUR_BITS = "peft's module over bitsandbytes' layers written out in plain torch (`tests/oracles/quantized.py`)"
ORACLES = {
    **dict.fromkeys(("full", "freeze", "bitfit", "lisa", "head"), _FROZEN),
    **dict.fromkeys(("qlora", "loftq"), _FOUR_BITS),
    "galore": "galore_torch's optimizer",
    "reft": "pyreft's intervention, written out",
    "adapter": "modules of `planner/probe`",
    "shira": "peft's module; its sparse gradients have no fake tensors, so that peaks are not compared",
    "cpt": "peft's prompt encoder; its steps end in the ordinary loss, as the engine plans them",
    "cartridge": "peft's prompt encoder",
    **dict.fromkeys(("prompt", "p_tuning", "prefix", "multitask_prompt"), "peft's prompt encoder"),
}
"""What a method was compared with, where that is not a layer of peft."""


BASES = {
    "nf4": "bitsandbytes Linear4bit (MatMul4Bit)",
    "nf4-dq": "the same, scales quantized too",
    "int8": "bitsandbytes Linear8bitLt (MatMul8bitLt)",
    "int4": "GPT-QModel TorchLinear (GPTQ)",
    "awq": "GPT-QModel AwqGEMMLinear (AWQ)",
}


APART = (
    ("states and scratch of optimizers", "the packages' own steps (torch, transformers, bitsandbytes, …): states to the byte, scratch within 7 %",
     "tests/workload/test_optimizers.py"),
    ("Sophia, LAMB, SGD", "their algorithms written out: both to the byte", "tests/workload/test_optimizers.py"),
    ("LoRA-FA's optimizer", "peft's LoraFAOptimizer: states to the byte, scratch within 2 %", "tests/workload/test_optimizers.py"),
    ("checkpoints on every n-th block, kept operations", "torch's checkpoints and their policies: peaks within 3 %", "tests/workload/test_checkpoints.py"),
    ("offloaded activations", "torchtune's hooks written out: peaks within 1 %, bytes sent within 2 %", "tests/workload/test_savers.py"),
    ("head and loss in chunks", "Liger's function written out: kept bytes exact, peaks within 1 %", "tests/workload/test_savers.py"),
    ("fp8 products", "torchao's Float8Linear: peaks within 3 %", "tests/workload/test_scaled.py"),
    ("offloaded optimizer and weights", "none: arithmetic of the papers", "tests/estimate/test_offload.py"),
    ("pruning, 2:4 sparsity", "none: sizes and packed bytes", "tests/estimate/test_compression.py"),
)
"""What stands outside of the tables of models and methods: what it was compared with, and where."""


def quantized_base(case: recorded.Case) -> str | None:
    """The storage of a case's base, None where it is plain."""
    name = str(case.arguments.get("precision", "")).removesuffix("-autocast").removesuffix("-wide")
    return name if name in BASES else None


@dataclass
class Errors:
    """Relative errors of one row of the document, by kind. types: model types that it was checked on, by kind."""

    parameters: list[float] = field(default_factory=list)
    flops: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    types: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def cells(self) -> tuple[str, ...]:
        """Cases and errors as the table shows them."""
        exact = sum(e == 0 for e in self.parameters)
        parameters = f"{exact} of {len(self.parameters)} exact" if self.parameters else "–"
        return parameters, _worst(self.flops), _median_and_worst(self.memory)


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _worst(errors: list[float]) -> str:
    return f"{len(errors)} cases, worst {_percent(max(errors))}" if errors else "–"


def _median_and_worst(errors: list[float]) -> str:
    if not errors:
        return "–"
    return f"{len(errors)} cases, median {_percent(statistics.median(errors))}, worst {_percent(max(errors))}"


def document() -> str:
    """The text of docs/coverage.md."""
    models: dict[str, Errors] = defaultdict(Errors)
    methods: dict[str, Errors] = defaultdict(Errors)
    bases: dict[str, Errors] = defaultdict(Errors)
    everything = Errors()
    for case in recorded.every():
        error = case.error()
        base = quantized_base(case)
        for row in (models[case.model], methods[case.method], everything, *([bases[base]] if base else [])):
            getattr(row, case.kind).append(error)
            row.types[case.kind].add(case.model)
    versions = record.load("parameters")["versions"]
    lines = [
        "# What is covered, and how it was checked",
        "",
        "Written by `docs/refresh.py`. Every recorded truth is asked of the engine again; a test fails when this page is stale.",
        "",
        f"Oracles: parameters counted in the modules of transformers {versions['transformers']} and peft {versions['peft']}; FLOPs of one training "
        f"step from torch {versions['torch']}'s `FlopCounterMode`, frozen weights included; peak memory from storages tracked through a whole "
        "step on fake tensors that follow CUDA's rules (`tests/oracles`). Random configs are drawn beside these in the tests.",
        "",
        "| all together | parameters | training FLOPs | peak memory |",
        "|---|---|---|---|",
        _row(f"{len(models)} types, {len(methods)} methods", everything),
        "",
        f"## Models: {len(FAMILIES)} types with a reader",
        "",
        "| model_type | parameters | training FLOPs | peak memory |",
        "|---|---|---|---|",
    ]
    lines += [_row(f"`{name}`", models[name] if name in models else Errors()) for name in sorted(FAMILIES)]
    lines += [
        "",
        "Any other type that transformers builds as one stack of blocks over tokens is imported by structure: parameters exact or refused, "
        "FLOPs within 0.5 % and memory within 20 % on types with a reader whose reader was left out, FLOPs within 8 % on twelve types without one "
        "(`tests/workload/test_structure.py`); the estimate says so.",
        "",
        f"## Methods: {len(METHODS)}",
        "",
        "Architectures: model types on which parameters, FLOPs and memory were compared.",
        "",
        "| method | reference | oracle | architectures | parameters | training FLOPs | peak memory |",
        "|---|---|---|--:|---|---|---|",
    ]
    for name, kind in METHODS.items():
        row = methods[name] if name in methods else Errors()
        types = " · ".join(str(len(row.types[k])) for k in recorded.KINDS)
        oracle = ORACLES.get(name, "peft's module")
        lines.append(f"| `{name}` | {kind.reference} | {oracle} | {types} | " + " | ".join(row.cells()) + " |")
    lines += ["", "## Quantized bases", "", "| storage | layer | parameters | training FLOPs | peak memory |", "|---|---|---|---|---|"]
    lines += [f"| `{name}` | {BASES[name]} | " + " | ".join(bases[name].cells()) + " |" for name in BASES]
    lines += ["", f"The layers are those of the libraries written out in plain torch (`tests/oracles/quantized.py` names the files), under peft "
              f"{versions['peft']}'s own LoRA layers for them; the sizes of their tensors are compared in `tests/workload/test_quantized.py`. "
              "No GPU took part."]  # fmt: skip
    lines += ["", "## Optimizers and memory savers", "", "| what | oracle | test |", "|---|---|---|"]
    lines += [f"| {what} | {oracle} | `{test}` |" for what, oracle, test in APART]
    lines += ["", "Methods of peft that are not planned, each refused with its reason:", ""]
    lines += [f"- `{name}` {reason}." for name, reason in UNPLANNED.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, errors: Errors) -> str:
    return f"| {name} | " + " | ".join(errors.cells()) + " |"
