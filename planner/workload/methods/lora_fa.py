"""LoRA-FA: A stays as it was drawn and B alone is trained, so that only the rank-wide product is kept of a layer's input.

Zhang et al. 2023, arXiv:2308.03303 (sec. 3). With `optimizer: lora-fa` the step is peft's LoraFAOptimizer, which also corrects B's gradient.
"""

from planner.workload.methods.base import MethodKind, register
from planner.workload.methods.lora import FIELDS, bind

register(
    MethodKind(
        "lora_fa",
        "LoRA-FA",
        "LoRA whose A is frozen: half the states, and inputs of adapted layers are not kept.",
        tuple(name for name in FIELDS if name not in ("use_dora", "token_indices")),
        "Zhang et al. 2023, arXiv:2308.03303",
        bind,
    )
)
