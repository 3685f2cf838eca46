"""Rank-stabilised LoRA: another scale, the same operations."""

from planner.workload.methods.base import MethodKind, register
from planner.workload.methods.lora import FIELDS, bind

register(
    MethodKind(
        "rslora",
        "rsLoRA",
        "LoRA scaled by alpha over the root of the rank; costs what LoRA costs.",
        FIELDS,
        "Kalajdzievski 2023, arXiv:2312.03732",
        bind,
    )
)
