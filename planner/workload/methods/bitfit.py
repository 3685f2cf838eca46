"""BitFit: only bias terms are trained; no weight gradient is formed, and a linear layer keeps no input."""

from __future__ import annotations

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation, MethodKind, register


def _bind(method: Method, arch: Architecture) -> Adaptation:
    names = ("qkv_bias", "out_bias", "mlp_bias", "norm_bias", "head_bias", "classifier_bias")
    if not any(getattr(stack, name) for stack in arch.stacks for name in names):
        raise PlanError(
            "method.name", "bitfit", f"trains nothing: {arch.model_type} has no biases", "Use ln_tuning or lora."
        )
    return Adaptation("bitfit", trains=lambda path: path.endswith("bias"))


register(
    MethodKind("bitfit", "BitFit", "Trains only the biases.", (), "Ben Zaken et al. 2021, arXiv:2106.10199", _bind)
)
