"""LoRA+: a higher learning rate for B than for A; the same operations."""

from planner.workload.methods.base import MethodKind, register
from planner.workload.methods.lora import FIELDS, bind

register(
    MethodKind(
        "loraplus",
        "LoRA+",
        "LoRA whose B learns faster than its A; costs what LoRA costs.",
        FIELDS,
        "Hayou et al. 2024, arXiv:2402.12354",
        bind,
    )
)
