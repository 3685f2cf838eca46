"""CPT: what is added to the embeddings of a given context is trained (Blau et al. 2024, arXiv:2410.17222).

As peft's CPT runs it: the context's embeddings stand frozen beside the trained differences, both in fp32. Its weighted loss works token by token;
it is planned as the ordinary loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Parameter, Tensor
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.virtual_tokens import DEFAULT_TOKENS, ENCODER, check_single, check_width, prepend, table

if TYPE_CHECKING:
    from planner.workload.writer import Writer


def _bind(method: Method, arch: Architecture) -> Adaptation:
    check_width(arch, method.name)
    check_single(arch, method.name)
    tokens = method.virtual_tokens or DEFAULT_TOKENS

    def prompt(w: Writer, x: Tensor) -> Tensor:
        """peft's CPTEmbedding.forward: `embedding(indices) + delta_embedding(indices)`."""
        g = w.graph
        fixed = g.parameter(Parameter(f"{ENCODER}.frozen.weight", (tokens, arch.hidden), "fp32", False, adapter=True))
        looked = g.new((1, tokens, arch.hidden), "fp32", False, "context")
        moved = (Kernel("elementwise", 2 * looked.bytes),)
        g.add_operation("context", "embedding", (fixed,), (looked,), (), moved, ())
        return prepend(w, g.add(looked, table(w, 1, tokens, arch.hidden), name="context_add"), x)

    return Adaptation(
        method.name,
        trains=lambda path: False,
        peft=True,
        resolved={"virtual_tokens": tokens},
        formula=f"p · h with p = {tokens}",
        virtual_tokens=tokens,
        prompt=prompt,
        notes=("CPT's token-weighted loss is planned as the ordinary loss.",),
    )


register(
    MethodKind(
        "cpt",
        "CPT",
        "Trains what is added to the embeddings of a context.",
        ("virtual_tokens",),
        "Blau et al. 2024, arXiv:2410.17222",
        _bind,
    )
)
