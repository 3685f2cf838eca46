"""LoftQ: an initialisation of LoRA over a quantized base; the same operations."""

from planner.workload.methods.base import MethodKind, register
from planner.workload.methods.lora import FIELDS, bind

register(
    MethodKind(
        "loftq",
        "LoftQ",
        "QLoRA started so that the update makes up for quantization; costs what QLoRA costs.",
        FIELDS,
        "Li et al. 2023, arXiv:2310.08659",
        bind,
    )
)
