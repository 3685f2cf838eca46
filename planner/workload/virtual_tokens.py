"""Trained tokens that stand before the user's: looked up in a table of their own, and turned into embeddings, keys or values.

Source: peft 0.21 `peft_model.py` (`get_prompt`), `tuners/prompt_tuning`, `tuners/p_tuning`, `tuners/prefix_tuning`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.errors import PlanError
from planner.workload.architecture import Architecture
from planner.workload.graph import Kernel, Tensor

if TYPE_CHECKING:
    from planner.workload.methods.base import Join
    from planner.workload.writer import Writer

DEFAULT_TOKENS = 20
ENCODER = "prompt_encoder"


def table(w: Writer, batch: float, tokens: float, width: float) -> Tensor:
    """The virtual tokens' rows, `batch` times: [batch, tokens, width]; backward sums them into a dense gradient."""
    g = w.graph
    weight = w.adapter(f"{ENCODER}.embedding.weight", (tokens, width))
    y = g.new((batch, tokens, width), weight.dtype, True, "virtual_tokens")
    moved = 2 * y.bytes
    back = (Kernel("elementwise", weight.bytes + moved),)
    g.add_operation("virtual_tokens", "embedding", (weight,), (y,), (), (Kernel("elementwise", moved),), back)
    return y


def dense(w: Writer, name: str, x: Tensor, out: float) -> Tensor:
    """A trained linear layer of the encoder, with bias."""
    weight = w.adapter(f"{ENCODER}.{name}.weight", (out, x.shape[-1]))
    return w.graph.linear(x, weight, w.adapter(f"{ENCODER}.{name}.bias", (out,)))


def prepend(w: Writer, prompt: Tensor, x: Tensor) -> Tensor:
    """One prompt [1, p, h] repeated for every sequence, cast to the embeddings' type and put before them."""
    g = w.graph
    repeated = g.copy(prompt, (w.b, prompt.shape[1], prompt.shape[2]), name="repeat_prompt")
    prompts = g.cast(repeated, x.dtype, name="prompt_cast")
    joined = g.cat((prompts, x), (w.b, w.t, x.shape[-1]), name="prepend_prompt")
    w.held = (*w.held, prompts, joined)  # `prompts` and `inputs_embeds`, variables of peft's forward
    return joined


def check_cache(arch: Architecture, method: str) -> None:
    """Keys and values before those of the input reach the layers as a cache."""
    if not arch.causal:
        raise PlanError(
            "method.name",
            method,
            f"needs a model that takes past keys and values; {arch.model_type} does not in transformers",
            "Use prompt, lora or another method.",
        )


def hand_out(w: Writer, arch: Architecture, whole: Tensor) -> None:
    """All layers' keys and values [b, p, L · 2 · kv heads · head size] in the model's type, one slice a layer."""
    whole = w.graph.cast(whole, w.s.formats.graph, name="prefix_cast")
    shape = (2.0, w.b, arch.kv_heads, whole.shape[1], arch.head_dim)
    w.carried.update(enumerate(w.graph.split(whole, [shape] * arch.layers, kernels=2)))


def join_prefix(arch: Architecture) -> Join:
    """What joins a layer's slice with the keys and values of the tokens."""

    def join(w: Writer, index: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The cache's copy of this layer's slice, and its keys and values joined with those of the tokens."""
        g = w.graph
        source = w.carried[index]
        slices = [g.new(source.shape[1:], source.dtype, True, "prefix_copy") for _ in range(2)]
        moved = (Kernel("elementwise", source.bytes),) * 2
        g.add_operation("prefix_copy", "elementwise", (source,), slices, (), moved, moved)
        shape = (w.b, arch.kv_heads, w.keys, arch.head_dim)
        joined = [g.cat((p, x), shape, name="prefix_join") for p, x in zip(slices, (k, v), strict=True)]
        w.held = (*w.held, *joined)  # the cache
        return joined[0], joined[1]

    return join


def check_width(arch: Architecture, method: str) -> None:
    """peft gives virtual tokens the hidden size; embeddings of another width cannot stand beside them."""
    if arch.embedding_width and arch.embedding_width != arch.hidden:
        raise PlanError(
            "method.name",
            method,
            f"gives virtual tokens the hidden size {arch.hidden}, but embeddings are {arch.embedding_width} wide",
            "Use prefix, lora or another method.",
        )
