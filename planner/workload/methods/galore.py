"""GaLore: every weight is trained, but the optimizer sees a low-rank projection of each linear layer's gradient.

Zhao et al. 2024, arXiv:2403.03507 (algorithm 2), as galore_torch 1.0 and transformers' `optim="galore_adamw"` run it: the projector comes from a
singular value decomposition of the gradient every `period` steps. Every nn.Linear (the output head too, as transformers' `all-linear` has it) is
projected unless `targets` names parts of module paths. The optimizer is planned in the step that renews the projectors.
"""

from __future__ import annotations

import re
from dataclasses import replace

from planner.errors import PlanError
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import BYTES, Parameter
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.targets import expression
from planner.workload.modules import linear_kinds
from planner.workload.optimizers import Optimizer, Step, Task, Trained, find_optimizer

DEFAULT_RANK, DEFAULT_PERIOD = 128, 200
"""transformers' optim_args."""


NUMBER = re.compile(r"\.\d+\.")
"""Of a layer, or of a part of one (T5)."""


def _bind(method: Method, arch: Architecture) -> Adaptation:
    if arch.model_type == "gpt2":
        raise PlanError(
            "method.name",
            "galore",
            "projects nn.Linear layers; GPT-2's are Conv1D, so that nothing is projected",
            "Use lora, or full with adafactor.",
        )
    rank, period = method.rank or DEFAULT_RANK, method.period or DEFAULT_PERIOD
    n, names = arch.names, method.targets
    head = n.head + ".decoder" if arch.head_transform else n.head
    outside = {n.classifier, f"{n.classifier}.dense", f"{n.classifier}.out_proj", "bert.pooler.dense", "lm_head.dense"}
    outside |= {"cls.predictions.transform.dense", "model.decoder.project_in", "model.decoder.project_out"}
    if not arch.tied:  # a tied head has the embedding's name among the parameters, which names no linear layer
        outside.add(head)
    known = {re.sub(NUMBER, ".{i}.", path) for path in (*linear_kinds(arch), *outside)}
    compiled = expression("targets", names) if isinstance(names, str) and names != "all-linear" else None

    def wanted(path: str) -> bool:
        if re.sub(NUMBER, ".{i}.", path) not in known:
            return False
        if compiled is not None:
            return compiled.fullmatch(path) is not None
        return names in (None, "all-linear") or any(name in path for name in names or ())

    if not any(wanted(path.replace("{i}", str(i))) for path in known for i in range(arch.layers)):
        raise PlanError(
            "method.targets", names, "matches no linear layer", f"Use parts of paths such as {linear_kinds(arch)[0]}."
        )

    def projected(parameter: Parameter) -> bool:
        path, _, end = parameter.name.rpartition(".")
        return end == "weight" and len(parameter.shape) == 2 and wanted(path)

    def stepped(optimizer: Optimizer, task: Task) -> Step:
        if optimizer.name not in ("adamw", "adamw-fused", "galore"):
            raise PlanError("optimizer", optimizer.name, "has no GaLore form that is planned", "Use adamw.")
        parts = [(t, projected(t.parameter)) for t in task.trained]
        # the optimizer projects what stands in blocks
        placed = [Trained(t.parameter, t.times, "block" if low else "head") for t, low in parts]
        step = find_optimizer("galore").step(replace(task, trained=placed, rank=rank, every=period))
        scratch = before = 0.0
        for parameter in (t.parameter for t, low in parts if low):
            scratch = max(scratch, _renewal(parameter, task, float(rank), before))
            before = _left(parameter, task, float(rank))
        return replace(step, temporaries=max(step.temporaries, scratch))

    return Adaptation(
        "galore",
        trains=lambda path: True,
        resolved={"rank": rank, "period": period},
        stepped=stepped,
        sharding=False,
        notes=(f"The optimizer's memory is that of every {period}th step, which renews the projectors.",),
        formula="none; all weights are trained",
    )


def _renewal(p: Parameter, task: Task, rank: float, before: float) -> float:
    """Scratch of one projector's renewal [bytes] (galore_torch.GaLoreProjector): singular vectors of both sides in fp32, a cast of the gradient,
    and the factor that is not used; or the update projected back and scaled, beside its low-rank form. before: left by the parameter before."""
    (m, n), small = p.shape, min(p.shape)
    element = BYTES[task.dtype(p)]
    copy = 0.0 if element == 4 else 4.0 * p.numel
    r = min(rank, small)
    renewal = 4.0 * (m * small + small * n + small) + copy + 4.0 * r * (r + max(m, n))
    return max(renewal + before, element * (2 * p.numel + 3 * max(m, n) * r))


def _left(p: Parameter, task: Task, rank: float) -> float:
    """What the loop's variables still hold while the next parameter is projected [bytes]: the update, the denominator, the projected gradient."""
    return BYTES[task.dtype(p)] * (p.numel + 2 * max(p.shape) * min(rank, *p.shape))


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
