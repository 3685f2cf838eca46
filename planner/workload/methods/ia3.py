"""(IA)3: learned vectors scale keys, values and the feed-forward's inner activations (Liu et al. 2022, sec. 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation, MethodKind, register
from planner.workload.methods.targets import COMMON, adapted

if TYPE_CHECKING:
    from planner.workload.graph import Tensor
    from planner.workload.writer import Writer

_DECODER = ("q_proj", "v_proj", "down_proj")
TARGETS: dict[str, tuple[str, ...]] = {
    "gpt2": ("c_attn", "mlp.c_proj"),
    "opt": ("q_proj", "k_proj", "fc2"),
    "gpt_neox": ("query_key_value", "dense_4h_to_h"),
    "llama": ("k_proj", "v_proj", "down_proj"),
    "mistral": ("k_proj", "v_proj", "down_proj"),
    "bert": ("key", "value", "output.dense"),
    "roberta": ("key", "value", "output.dense"),
    "deberta": ("in_proj", "output.dense"),
    "deberta-v2": ("key_proj", "value_proj", "output.dense"),
    "phi": ("q_proj", "v_proj", "fc2"),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text", "qwen2", "qwen3"), _DECODER),
    "t5": ("k", "v", "wo"),
    "mt5": ("k", "v", "wi_1"),
    "bloom": ("query_key_value", "mlp.dense_4h_to_h"),
    "falcon": ("query_key_value", "dense_4h_to_h"),
    "gptj": ("q_proj", "v_proj", "fc_out"),
    "gpt_neo": ("q_proj", "v_proj", "c_proj"),
    "bart": ("q_proj", "v_proj", "fc2"),
    "gpt_bigcode": ("c_attn", "mlp.c_proj"),
    "mixtral": ("k_proj", "v_proj"),
}
"""What peft scales when no target is given; of Mixtral's list, what its stacked experts leave."""
INNER: dict[str, tuple[str, ...]] = {
    "gpt2": ("mlp.c_proj",),
    "opt": ("fc2",),
    "gpt_neox": ("dense_4h_to_h",),
    "bert": ("output.dense",),
    "roberta": ("output.dense",),
    "deberta": ("output.dense",),
    "deberta-v2": ("output.dense",),
    "phi": ("fc2",),
    "t5": ("wo",),
    "mt5": (),
    "bloom": ("mlp.dense_4h_to_h",),
    "falcon": ("dense_4h_to_h",),
    "gptj": ("fc_out",),
    "gpt_neo": ("c_proj",),
    "bart": ("fc2",),
    "gpt_bigcode": ("mlp.c_proj",),
}
"""Which of them scale their input."""


def _bind(method: Method, arch: Architecture) -> Adaptation:
    inner = INNER.get(arch.model_type, ("down_proj",))

    def beside(w: Writer, path: str, x: Tensor, out: float, layer: Callable[[Tensor], Tensor]) -> Tensor:
        """peft.tuners.ia3.Linear.forward: the input or the result times the vector, in the vector's type, cast back."""
        g = w.graph
        if path.endswith(inner):
            vector = w.adapter(path + ".ia3_l", (x.shape[-1],))
            scaled = g.mul(g.cast(x, vector.dtype), g.unary("ones_times", vector, save="none"), name="ia3")
            y = layer(g.cast(scaled, x.dtype))
            g.release(x)
            return y
        vector = w.adapter(path + ".ia3_l", (out,))
        y = layer(x)
        scaled = g.mul(y, g.unary("ones_times", vector, save="none"), name="ia3")
        y = g.cast(scaled, x.dtype)
        g.release(x)
        return y

    return adapted(method, arch, beside, {}, TARGETS)


register(
    MethodKind(
        "ia3",
        "(IA)3",
        "Trains vectors that scale keys, values and inner activations.",
        ("targets", "exclude", *COMMON),
        "Liu et al. 2022, arXiv:2205.05638",
        _bind,
    )
)
