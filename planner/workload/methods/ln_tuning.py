"""LN tuning: a trained copy of each norm runs in place of the frozen original, which stays in memory (Zhao et al. 2023, arXiv:2312.11420).

As peft's LNTuning: copies keep the base's type; what is adapted when no target is given depends on the model.
"""

from __future__ import annotations

from planner.errors import PlanError, shorten
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.targets import Match, ends, expression, saved_whole
from planner.workload.modules import linear_kinds

_TWO = ("input_layernorm", "post_attention_layernorm", "norm")
_FOUR = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
    "norm",
)
TARGETS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("llama", "mistral", "gemma"), _TWO),
    **dict.fromkeys(("gemma2", "gemma3_text"), _FOUR),
    **dict.fromkeys(("qwen2", "qwen3"), ("post_attention_layernorm",)),
    "gpt2": ("ln_1", "ln_2", "ln_f"),
    "gptj": ("ln_1", "ln_f"),
    **dict.fromkeys(("bloom", "falcon"), ("input_layernorm", "post_attention_layernorm", "ln_f")),
    **dict.fromkeys(("t5", "mt5"), ("layer_norm", "final_layer_norm")),
    "bart": ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
    "phi": ("input_layernorm", "final_layernorm"),
}
"""What peft adapts when no target is given (peft.utils.constants)."""


def _bind(method: Method, arch: Architecture) -> Adaptation:
    n = arch.names
    once = [name for name in (n.final_norm if arch.final_norm else "", n.embedding_norm) if name]
    inside = [f"{n.layer}.{name}" for name in (*n.norms, *(n.qk_norms if arch.qk_norm != "none" else ()))]
    targets = method.targets or TARGETS.get(arch.model_type)
    if targets is None:
        raise PlanError(
            "method.targets",
            None,
            f"is needed: peft names no norms of {arch.model_type}",
            f"Its norms are {', '.join(dict.fromkeys(path.rsplit('.', 1)[-1] for path in (*inside, *once)))}.",
        )
    known = [*once, *(p.replace("{i}", str(i)) for p in (*inside, *linear_kinds(arch)) for i in range(arch.layers))]
    if isinstance(targets, str):
        compiled = expression("targets", targets)
        if not any(compiled.fullmatch(path) for path in known):
            raise PlanError(
                "method.targets", targets, "matches no norm", f"It must match a whole path such as {known[-1]}."
            )
        return _adaptation(method, lambda path: compiled.fullmatch(path) is not None)
    missing = [name for name in targets if not any(ends(path, (name,)) for path in known)]
    if missing and method.targets is not None:
        names = dict.fromkeys(path.rsplit(".", 1)[-1] for path in (*inside, *once))
        raise PlanError(
            "method.targets", shorten(missing[0]), "is no norm of this model", f"Its norms are {', '.join(names)}."
        )
    wanted = tuple(targets)
    return _adaptation(method, lambda path: ends(path, wanted))


def _adaptation(method: Method, copies: Match) -> Adaptation:
    saved = method.modules_to_save or ()
    return Adaptation(
        method.name,
        trains=lambda path: False,
        copies=lambda path: copies(path) or saved_whole(path, saved),
        per_layer=isinstance(method.targets, str),
        peft=True,
        loaded=method.adapters or 1,
        formula="sum over norms of their width (twice with biases)",
    )


register(
    MethodKind(
        "ln_tuning",
        "LN tuning",
        "Trains copies of the norms' weights.",
        ("targets", "adapters", "modules_to_save"),
        "Zhao et al. 2023, arXiv:2312.11420",
        _bind,
    )
)
