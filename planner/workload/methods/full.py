"""Full fine-tuning and pretraining: every weight is trained."""

from __future__ import annotations

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation, MethodKind, register


def _bind(method: Method, arch: Architecture) -> Adaptation:
    return Adaptation("full", trains=lambda path: True)


register(
    MethodKind("full", "Full fine-tuning", "Trains every weight.", (), "Devlin et al. 2019, arXiv:1810.04805", _bind)
)
