"""GaLore: every weight is trained, but the optimizer works on a low-rank projection of each linear layer's gradient.

Zhao et al. 2024, arXiv:2403.03507 (algorithm 2), as galore_torch 1.0 and transformers' `optim="galore_adamw"` run it: the projector of a [m, n] weight
has r · min(m, n) values and comes from a singular value decomposition of the gradient every `period` steps; moments have r · max(m, n) values. Every
linear layer is projected unless `targets` names parts of module paths.
"""

from __future__ import annotations

import re

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import BYTES, Parameter
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.targets import expression, linear_modules
from planner.workload.optimizers import Optimizer, Sized, Step

DEFAULT_RANK, DEFAULT_PERIOD = 128, 200
"""transformers' optim_args."""
OPTIMIZERS = ("adamw", "adamw-fused", "adamw8bit", "adafactor")


def _bind(method: Method, arch: Architecture) -> Adaptation:
    if arch.model_type == "gpt2":
        raise PlanError(
            "method.name",
            "galore",
            "projects nn.Linear layers; GPT-2's are Conv1D, so that nothing is projected",
            "Use lora, or full with adafactor.",
        )
    rank, period = method.rank or DEFAULT_RANK, method.period or DEFAULT_PERIOD
    n = arch.names
    layers = {re.sub(r"\.\d+\.", ".{i}.", path) for path in linear_modules(arch)}
    outside = {n.classifier, f"{n.classifier}.dense", f"{n.classifier}.out_proj", "bert.pooler.dense", "lm_head.dense"}
    head = n.head + ".decoder" if arch.head_transform else n.head
    outside |= {n.embedding} if arch.tied else {head}
    outside |= {"cls.predictions.transform.dense", "model.decoder.project_in", "model.decoder.project_out"}
    names = method.targets
    compiled = expression("targets", names) if isinstance(names, str) and names != "all-linear" else None

    def chosen(parameter: Parameter) -> bool:
        path, _, end = parameter.name.rpartition(".")
        if end != "weight" or len(parameter.shape) != 2:
            return False
        if re.sub(r"\.\d+\.", ".{i}.", path) not in layers and path not in outside:
            return False
        path = head if arch.tied and path == n.embedding else path
        if compiled is not None:
            return compiled.fullmatch(path) is not None
        return names in (None, "all-linear") or any(name in path for name in names or ())

    if names not in (None, "all-linear"):
        every = [
            Parameter(path.replace("{i}", str(i)) + ".weight", (1, 1), "fp32", True)
            for path in (*layers, *outside)
            for i in range(arch.layers)
        ]
        if not any(chosen(p) for p in every):
            raise PlanError(
                "method.targets", names, "matches no linear layer", f"Use parts of paths such as {sorted(layers)[0]}."
            )

    def stepped(optimizer: Optimizer, trained: Sized, working: str) -> Step:
        if optimizer.name not in OPTIMIZERS:
            raise PlanError("optimizer", optimizer.name, "has no GaLore form", "Use adamw, adamw8bit or adafactor.")
        # a tied table is projected as the language head's weight, which a classifier does not have
        classifies = any(p.name.startswith(n.classifier + ".") for p, _ in trained)
        projected = {p.name for p, _ in trained if chosen(p) and not (classifies and p.name == n.embedding + ".weight")}
        return project(optimizer, trained, working, projected, float(rank))

    return Adaptation(
        "galore",
        trains=lambda path: True,
        resolved={"rank": rank, "period": period},
        stepped=stepped,
        sharding=False,
        notes=(
            f"The singular value decompositions of every {period}th step count in memory, not in the mean step time.",
        ),
        formula="none; all weights are trained",
    )


def project(optimizer: Optimizer, trained: Sized, working: str, projected: set[str], rank: float) -> Step:
    """The step over projected gradients, one tensor after the other (galore_torch.adamw.AdamW.step), in the step that renews the projectors."""
    low: list[tuple[Parameter, float]] = []
    projector = scratch = moved = kernels = 0.0
    for parameter, count in trained:
        size = BYTES[working] if working else BYTES[parameter.dtype]
        whole = parameter.numel * size
        if parameter.name not in projected:
            low.append((parameter, count))
            scratch = max(scratch, 2 * whole)
            continue
        m, n = parameter.shape
        small, r = min(m, n), min(rank, m, n)
        shape = (m, r) if m >= n else (r, n)
        low.append((Parameter(parameter.name, shape, parameter.dtype, True), count))
        # in fp32 the projector is a view of all singular vectors of its side
        kept = (small if size == 4 else r) * small * size
        projector += count * kept
        vectors = 4.0 * (m * small + small * n + small)
        back = 2 * whole + 3 * max(m, n) * r * size
        copy = 0.0 if size == 4 else 4.0 * parameter.numel
        scratch = max(scratch, back, vectors + copy + 4.0 * r * (r + max(m, n)))
        moved += count * (6 * whole + 2 * kept)
        kernels += 6 * count
    step = optimizer.step(low, working)
    tensors = sum(n for _, n in trained)
    return Step(
        {**step.states, "projector": projector}, scratch, step.moved + moved, step.kernels + kernels + 12 * tensors
    )


register(
    MethodKind(
        "galore",
        "GaLore",
        "Trains every weight; the optimizer sees low-rank projections of the gradients.",
        ("rank", "period", "targets"),
        "Zhao et al. 2024, arXiv:2403.03507",
        _bind,
    )
)
