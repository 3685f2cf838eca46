"""PiSSA: LoRA started from the largest singular vectors; the same operations."""

from planner.workload.methods.base import MethodKind, register
from planner.workload.methods.lora import FIELDS, bind

register(
    MethodKind(
        "pissa",
        "PiSSA",
        "LoRA started from the weight's principal directions; costs what LoRA costs.",
        FIELDS,
        "Meng et al. 2024, arXiv:2404.02948",
        bind,
    )
)
