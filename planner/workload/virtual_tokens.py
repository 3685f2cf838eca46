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


def prompted_stack(arch: Architecture) -> str:
    """The stack in whose embeddings virtual tokens stand: the encoder of an encoder-decoder, else the main one ("")."""
    return "" if arch.cross is None else arch.cross.source


def rows(arch: Architecture, tokens: int) -> int:
    """Rows of the table of virtual tokens: of encoder-decoders peft makes as many for the decoder, though the encoder alone reads its half
    (`total_virtual_tokens`, `PeftModelForSeq2SeqLM.forward`)."""
    return tokens if arch.cross is None else 2 * tokens


def check_source(arch: Architecture, method: str) -> None:
    """Virtual tokens stand before tokens; peft has none before sound."""
    if arch.cross is not None and arch.towers[0].front is not None:
        raise PlanError(
            "method.name",
            method,
            f"puts trained tokens before those of the source, and the source of {arch.model_type} is sound: peft cannot run it",
            "Use lora, adalora or another method.",
        )


def check_layers(arch: Architecture, method: str) -> None:
    """peft counts layers, heads and their size once, by the encoder's, and gives what it makes to the decoder."""
    if arch.cross is None:
        return
    source = arch.towers[0]
    sizes = [(s.layers, s.kv_heads, s.head_dim) for s in (source, arch)]
    if sizes[0] != sizes[1] or source.heads * source.head_dim != source.hidden:
        raise PlanError(
            "method.name",
            method,
            f"makes keys of the encoder's layers and heads for the decoder, which has others in this {arch.model_type}: peft cannot run it",
            "Use prompt or lora.",
        )


def check_single(arch: Architecture, method: str) -> None:
    """Methods whose tokens stand before those of one stack."""
    if arch.cross is not None:
        raise PlanError(
            "method.name",
            method,
            f"is not planned for encoder-decoders such as {arch.model_type}",
            "Use prompt, p_tuning, prefix or lora.",
        )


def prepend(w: Writer, prompt: Tensor, x: Tensor) -> Tensor:
    """One prompt [1, p, h] repeated for every sequence, cast to the embeddings' type and put before them; of an encoder-decoder its first half."""
    g = w.graph
    repeated = g.copy(prompt, (w.b, prompt.shape[1], prompt.shape[2]), name="repeat_prompt")
    prompts = g.cast(repeated, x.dtype, name="prompt_cast")
    if prompt.shape[1] > w.s.adaptation.virtual_tokens:
        prompts = g.split(prompts, [(w.b, float(w.s.adaptation.virtual_tokens), x.shape[-1])])[0]
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
    parts = 2.0
    if arch.cross is not None:  # made twice, for self- and cross-attention, of which the second is dropped
        parts, whole = 4.0, w.graph.cat((whole, whole), (*whole.shape[:-1], 2 * whole.shape[-1]), name="prefix_twice")
    shape = (parts, w.b, arch.kv_heads, whole.shape[1], arch.head_dim)
    w.carried.update(enumerate(w.graph.split(whole, [shape] * arch.layers, kernels=2)))


def join_prefix(arch: Architecture) -> Join:
    """What joins a layer's slice with the keys and values of the tokens."""

    def join(w: Writer, index: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The cache's copy of this layer's slice, and its keys and values joined with those of the tokens."""
        if w.arch.tower:
            return k, v
        g = w.graph
        source = w.carried[index]
        slices = [g.new(source.shape[1:], source.dtype, True, "prefix_copy") for _ in range(2)]
        moved = (Kernel("elementwise", 2 * slices[0].bytes),) * 2
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
