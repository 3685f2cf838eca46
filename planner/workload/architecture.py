"""What a model is made of, in neutral terms: a stack of blocks, with the stacks that run before it.

`families/` reads a Hugging Face config into it. Nothing after that knows a model's name. What a trait cannot say is a
component: a small dataclass that holds its sizes and writes itself to the graph (`components.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from planner.errors import PlanError
from planner.run import Batch, HeadName

if TYPE_CHECKING:
    from planner.workload.components import Behind, FeedForward, Front, Layout, Merge, Mixer, Output, Tail
    from planner.workload.seq2seq import Cross, RelativeBias

Norm = Literal[
    "layer", "layer-offset", "layer-fp32", "layer-cast", "layer-steps", "rms", "rms-offset", "rms-fp32", "rms-own", "rms-bare"
]
"""layer: LayerNorm · layer-offset: Nemotron's (1 + weight) · layer-fp32: Cohere's, written out in fp32 · layer-cast:
OLMo's, on an fp32 copy · layer-steps: DeBERTa's, in steps · rms: Llama's (weight times the value cast back) · rms-offset: Gemma's ((1 + weight) in fp32) ·
rms-fp32: OLMo 2's (weight in fp32) · rms-own: T5's (the value in its own type times an fp32 root) · rms-bare: NanoChat's,
without a weight."""
Placement = Literal["pre", "post", "sandwich", "post-branch", "parallel"]
"""Where norms stand in a block: before each branch (GPT-2, Llama), after each sum (BERT), around each branch (Gemma
2), after each branch (OLMo 2), or attention
and MLP side by side (GPT-NeoX, Phi)."""
Softmax = Literal["upcast", "cast", "plain", "wide"]
"""Eager softmax: in fp32 and cast to the query's type (Llama), in its own type and cast to the value's (GPT-2), or as it comes (BERT).
wide: the scores themselves are computed in fp32 (GPT-J)."""


@dataclass(frozen=True)
class Names:
    """Module paths, for target selection as peft and `requires_grad_` users do it. `{i}` is the layer: its number, or
    what `numbers` calls it where layers are numbered within stages. context_norm, inner_norm: norms before the last weight of
    attention and of the MLP (BitNet); empty where a family has none, as others are."""

    layer: str = "model.layers.{i}"
    numbers: tuple[str, ...] = ()
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    fused: str = ""
    out: str = "self_attn.o_proj"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    router: str = "mlp.gate"
    experts: str = "mlp.experts"
    shared_expert: str = "mlp.shared_expert"
    down: str = "mlp.down_proj"
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    sinks: str = "self_attn.sinks"
    context_norm: str = ""
    inner_norm: str = ""
    qk_norms: tuple[str, str] = ("self_attn.q_norm", "self_attn.k_norm")
    activation: str = "mlp.act_fn"
    embedding: str = "model.embed_tokens"
    positions: str = ""
    token_types: str = ""
    extra_table: str = ""
    embedding_norm: str = ""
    early_norm: str = ""
    embedding_projection: str = ""
    final_norm: str = "model.norm"
    head: str = "lm_head"
    classifier: str = "score"
    pooler: str = "bert.pooler.dense"
    transform: tuple[str, str] | None = None
    decoder: str = ""


@dataclass(frozen=True)
class Experts:
    """A mixture of gated experts in place of each MLP (Shazeer et al. 2017, arXiv:1701.06538). Sizes are counts.

    routing: whether weights are the softmax over all experts (`softmax`), that renormalized over the chosen
    (`renormalized`), a softmax over the chosen scores alone, in fp32 (`chosen`) or in their own type (`chosen-own`),
    the sigmoid of each score (`sigmoid`), that renormalized (`sigmoid-renormalized`), or two rounds of sampling
    (`sampled`, Liu et al. 2023, arXiv:2310.00811).
    wide: the chosen weights stay in fp32 (Mixtral) instead of taking the router's type.
    shared: width of an expert that every token passes, 0 when there is none.
    held: experts whose weights this rank holds, where expert parallelism divides them; None: all.
    all_linear: whether peft's all-linear is planned: it cannot wrap routers that return a tuple (Phi-3.5-MoE, Llama 4).
    unstacked: names of gate, up and down projection before they were stacked, where peft adapts the router and the stacked weights by them.
    shared_gate, shared_first, shared_fused: it has a sigmoid gate, runs before the routed ones, or has one
    matrix for gate and up.
    precise: the router's weight is fp32 whatever the model's type, and so is its input · unmixed: autocast is off there ·
    upcast: it is cast to fp32 at every use instead (Kolibri) · norm_after: name of a norm of the sum, within the MLP (A.X K1).
    limited: only experts of the best groups are eligible (DeepSeek-AI 2024, arXiv:2412.19437, eq. 16).
    correction: bias on the scores that choose: none, a buffer, or a parameter that is never trained.
    scaled: the weights are multiplied by a constant.
    every: every expert computes every token, scaled by its score, which is 0 for experts not chosen (Llama 4).
    biased: experts and router have biases, and the gate is clamped (gpt-oss).
    router_linear: the router is a linear layer that target selection can name.
    gated: each expert has a gate, as a shared one does; else two weights (Nemotron 3) · latent: width of the tokens inside the routed
    experts, between two linear layers, 0 where it is that of the model.
    """

    count: int
    active: int
    ffn: int
    routing: Literal[
        "softmax", "renormalized", "chosen", "chosen-own", "sigmoid", "sigmoid-renormalized", "sampled"
    ] = "softmax"
    wide: bool = False
    shared: int = 0
    shared_gate: bool = False
    shared_first: bool = False
    shared_fused: bool = False
    unstacked: tuple[str, str, str] | tuple[()] = ()
    all_linear: bool = True
    held: int | None = None
    precise: bool = False
    unmixed: bool = False
    upcast: bool = False
    norm_after: str = ""
    limited: bool = False
    correction: Literal["none", "buffer", "parameter"] = "none"
    scaled: bool = False
    biased: bool = False
    every: bool = False
    router_linear: bool = False
    gated: bool = True
    latent: int = 0

    def idle(self, hidden: int) -> int:
        """Parameters of the experts that a token does not choose."""
        weights = (3 if self.gated else 2) * (self.latent or hidden) * self.ffn + (2 * self.ffn + hidden if self.biased else 0)
        return (self.count - self.active) * weights

    @property
    def here(self) -> int:
        """Experts whose weights are here."""
        return self.count if self.held is None else self.held


@dataclass(frozen=True)
class Architecture:
    """One transformer. Sizes are counts; dropouts are probabilities.

    key_bias: whether keys have a bias where queries and values do; None is the same · down_bias: whether the MLP's last weight has one,
    likewise · token_dropout: embeddings are scaled as if masked tokens had been dropped (ESM).
    stages: how many the layers are divided into, where their paths count these · nested_checkpoints: transformers
    checkpoints a stage and each of its layers.
    masked: the model makes a causal mask for its blocks · wide_residual: the blocks hand on an fp32 sum (Mamba) ·
    embeddings_reread: blocks also read a copy of the token embeddings, carried as `embeddings` (Zamba).
    rotary_wide: positions are rotated in fp32 · rotary_complex: as products of fp32 complex numbers · qk_norm_last:
    queries and keys are normed after that (unit: without weights) · query_tempered: queries are scaled by position · clipped: queries,
    keys and values are clamped · sinks: a learned score per head takes part in the softmax (Xiao et al. 2023,
    arXiv:2309.17453).
    Attention. qk_clipped: q, k, v are clamped in place
    (OLMo's clip_qkv) · qkv_regrouped: its parts are copied to the
    order of heads (CodeGen) · query_rescaled: queries are scaled by position (Ministral 3) · kv_repeated_early: keys and
    values get all heads before their rotation (Falcon) · rotary_fp32: cosine and sine stay in fp32 (OLMo) ·
    rotary_upcast: q and k are cast to fp32, rotated, and cast back (Cohere) · rotary_halved: each layer repeats one half of the table for
    interleaved pairs (GLM).
    Scores of eager attention. score_scaling: scaled by an operator of its own or by the product · score_bias: fp32
    ALiBi biases are added (MPT) · scores_floored: bounded from below by an operator that keeps them (XGLM) · scores_kept: a variable holds
    them (RemBERT) · probabilities_returned: the block's forward holds them until it ends (not MPNet's).
    Masks. masks_built: a causal mask exists even where the kernel has its own · mask_heads: how many heads it tells
    apart (ALiBi) · causal_tables: rows of the square table that each layer keeps as a buffer (GPT-Neo).
    Blocks. first_norm: the block norms its input · branch_dropout: which branches end in hidden_dropout · bias_added:
    biases are added by an operator of their own (Falcon) · shared_layers: how many sets of weights the layers share, 0
    when each has its own (ALBERT).
    Embeddings. sinusoid_rows: rows of a table of sinusoids that is no parameter (XGLM) · embedding_factor: their width,
    projected to that of the blocks behind their norm (ALBERT, ELECTRA) ·
    extra_tables: rows of one more table of segments (ERNIE's tasks).
    Heads. masked_head: offers a masked-LM head without a hidden layer · transform_width: width of its hidden layer, where it
    is not that of the blocks · pooling: classifies the first token, the mean of all, or each before the mean ·
    pooler_saved: peft trains a copy of the pooler too · pools: so does the model without a head, whose loss here does not see it.
    variants: trait changes of the layers, one mapping a layer or a repeating period of them.
    front, mixer, feed_forward, layout, tail: components in place of token embeddings, self-attention, the MLP, the
    whole block, and (in a tower) the final norm; None is the usual one, described by the other traits · behind: what the stack does
    between one block and the next.
    spare: a linear layer that no forward passes: its path and how many it takes and gives · biased_apart: the masked-LM head's bias is
    added by an operator of its own.
    outputs: heads of its own, beside or in place of the usual ones; when there are any, the model offers just these.
    batched_positions: learned positions are looked up for every sequence of the batch (Whisper).
    cross: attention over a tower's output in every block · position_bias: what self-attention adds to its scores.
    wide_down: the MLP's hidden values take the storage type of its last weight (T5).
    final_dropout: behind the final norm · output_scaled: the head's input is scaled · logit_offset: a bias that is a buffer
    is added to the logits · plain_loss: the loss takes the logits as they are, without a copy in fp32.
    fixed_positions: sinusoidal positions as a frozen parameter (`parameter`), a buffer (`buffer`), or learned ones.
    merge: what puts a tower's output in the place of some tokens · rotary_batched: every sequence has rotary tables of its
    own · two_way: some tokens see those behind them too, so that every attention gets a mask.
    towers: stacks that run before this one, whose output it takes · tower: this stack's name when it is one of them.
    sdpa, eager, flash: which kernels of attention transformers offers (or, of sdpa, which are planned).
    imported: read from the modules of a built model, without knowing its code.
    """

    model_type: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    max_positions: int | None
    causal: bool = True
    norm: Norm = "rms"
    norm_affine: bool = True
    placement: Placement = "pre"
    parallel_norms: int = 1
    final_norm: bool = True
    activation: str = "silu"
    gated: bool = True
    fused_qkv: bool = False
    fused_gate_up: bool = False
    qkv_bias: bool = False
    key_bias: bool | None = None
    out_bias: bool = False
    mlp_bias: bool = False
    down_bias: bool | None = None
    norm_bias: bool = False
    qk_norm: Literal["none", "head", "heads", "full", "unit"] = "none"
    qk_clipped: bool = False
    qkv_regrouped: bool = False
    query_rescaled: bool = False
    score_scaling: Literal["apart", "fused"] = "apart"
    score_bias: Literal["none", "fp32"] = "none"
    masks_built: bool = False
    mask_heads: int = 1
    kv_repeated_early: bool = False
    bias_added: bool = False
    causal_tables: int = 0
    rotary_dim: int = 0
    learned_positions: int = 0
    token_types: int = 0
    extra_tables: int = 0
    embedding_width: int = 0
    embedding_factor: int = 0
    embedding_scaled: bool = False
    token_dropout: bool = False
    residual_scaled: bool = False
    logits_scaled: bool = False
    rotary_bases: int = 1
    rotary_repeated: bool = False
    rotary_batched: bool = False
    two_way: bool = False
    rotary_wide: bool = False
    rotary_complex: bool = False
    qk_norm_last: bool = False
    query_tempered: bool = False
    sinks: bool = False
    clipped: bool = False
    rotary_fp32: bool = False
    rotary_upcast: bool = False
    rotary_halved: bool = False
    experts: Experts | None = None
    tied: bool = False
    head_bias: bool = False
    head_transform: bool = False
    transform_width: int = 0
    pooler: bool = False
    classifier_hidden: bool = False
    classifier_bias: bool = False
    classifier_activation: Literal["tanh", "relu", "gelu"] = "tanh"
    pooler_saved: bool = False
    pools: bool = False
    pooler_bias: bool = True
    pooler_norm: bool = False
    pooling: Literal["first", "mean", "late"] = "first"
    masked_head: bool = False
    masked_loss_upcast: bool = False
    shared_layers: int = 0
    num_labels: int = 2
    query_scaled: bool = False
    softmax: Softmax = "upcast"
    fresh_rotary: bool = False
    embedding_dropout: float = 0.0
    hidden_dropout: float = 0.0
    branch_dropout: Literal["both", "attention", "mlp"] = "both"
    scores_kept: bool = False
    probabilities_returned: bool = True
    scores_floored: bool = False
    first_norm: bool = True
    sinusoid_rows: int = 0
    attention_dropout: float = 0.0
    classifier_dropout: float = 0.0
    activation_dropout: float = 0.0
    final_dropout: float = 0.0
    wide_down: bool = False
    output_scaled: bool = False
    logit_offset: bool = False
    plain_loss: bool = False
    fixed_positions: Literal["", "parameter", "buffer"] = ""
    batched_positions: bool = False
    cross: Cross | None = None
    position_bias: RelativeBias | None = None
    attention_softcap: bool = False
    logit_softcap: bool = False
    windows: tuple[int | None, ...] = ()
    default_head: HeadName = "causal-lm"
    names: Names = field(default_factory=Names)
    sdpa: bool = True
    eager: bool = True
    flash: bool = True
    stages: int = 0
    nested_checkpoints: bool = False
    masked: bool = True
    wide_residual: bool = False
    embeddings_reread: bool = False
    variants: tuple[Mapping[str, Any], ...] = ()
    front: Front | None = None
    mixer: Mixer | None = None
    feed_forward: FeedForward | None = None
    layout: Layout | None = None
    behind: Behind | None = None
    tail: Tail | None = None
    spare: tuple[str, int, int] | None = None
    biased_apart: bool = False
    outputs: tuple[Output, ...] = ()
    merge: Merge | None = None
    towers: tuple[Architecture, ...] = ()
    tower: str = ""
    imported: bool = False

    def at(self, layer: int) -> Architecture:
        """The traits of one layer: where layers differ, `variants` says in what, layer by layer or by period."""
        return self.kinds[layer % len(self.kinds)]

    def path(self, layer: int) -> str:
        """Module path of a layer."""
        n = self.names
        return n.layer.replace("{i}", n.numbers[layer] if n.numbers else str(layer))

    @cached_property
    def kinds(self) -> tuple[Architecture, ...]:
        """The traits of the layers of one period; equal ones are one object."""
        made: dict[tuple[tuple[str, Any], ...], Architecture] = {}
        for changes in self.variants:
            key = tuple(sorted(changes.items()))
            if key not in made:
                made[key] = replace(self, variants=(), **changes)
        return tuple(made[tuple(sorted(changes.items()))] for changes in self.variants) or (self,)

    @property
    def mixer_kernels(self) -> str:
        """Packages whose fused kernels the blocks' mixers have beside transformers' separate operators, as text; empty when there are none."""
        parts = [part for stack in self.stacks for kind in stack.kinds for part in (kind.mixer, kind.layout)]
        return " and ".join(dict.fromkeys(k for part in parts if (k := getattr(part, "kernels", ""))))

    @property
    def stacks(self) -> tuple[Architecture, ...]:
        """All stacks in the order of the forward pass, this one last."""
        return (*self.towers, self)

    def sample_tokens(self, batch: Batch) -> int:
        """Tokens of one sample, as tokens per second count them."""
        return sum(batch.seq_len or 0 if s.front is None else s.front.counted(batch) for s in self.stacks)

    @property
    def keys_biased(self) -> bool:
        """Whether key projections have a bias."""
        return self.qkv_bias if self.key_bias is None else self.key_bias

    @property
    def down_biased(self) -> bool:
        """Whether the MLP's last weight has a bias."""
        return self.mlp_bias if self.down_bias is None else self.down_bias

    @property
    def offered(self) -> tuple[str, ...]:
        """Output heads that the model can have."""
        if self.outputs:
            return tuple(output.kind for output in self.outputs)
        if self.cross is not None:
            return "causal-lm", "none"
        return (
            "masked-lm" if self.head_transform or self.masked_head else "causal-lm",
            "sequence-classification",
            "none",
        )

    @property
    def output_layer(self) -> str:
        """Path of the linear layer that gives the logits."""
        return self.names.decoder or self.names.head + (".decoder" if self.head_transform else "")

    def window(self, layer: int) -> int | None:
        """Sliding attention window of a layer [token], None when it sees everything before it."""
        return self.windows[layer % len(self.windows)] if self.windows else None

    def check(self) -> Architecture:
        """Raise `PlanError` when the sizes contradict each other."""
        if self.experts is not None and self.experts.active > self.experts.count:
            raise PlanError(
                "model.num_experts_per_tok",
                self.experts.active,
                f"is more than the {self.experts.count} experts",
                "Use at most the number of experts.",
            )
        if self.heads % self.kv_heads:
            raise PlanError(
                "model.num_key_value_heads",
                self.kv_heads,
                f"does not divide the {self.heads} attention heads",
                "Use a divisor of the head count.",
            )
        if self.rotary_dim > self.head_dim:
            raise PlanError(
                "model.partial_rotary_factor",
                self.rotary_dim,
                f"rotates more than the head size {self.head_dim}",
                "Use a factor of at most 1.",
            )
        return self

    @property
    def idle_parameters(self) -> int:
        """Parameters of the experts that a token does not choose, in all layers."""
        kinds = (self.at(layer) for layer in range(self.layers))
        return sum(kind.experts.idle(self.hidden) for kind in kinds if kind.experts is not None)

    @property
    def summary(self) -> str:
        """One line: what was understood of the config."""
        if self.kv_heads == self.heads:
            attention = f"MHA {self.heads}"
        else:
            attention = f"{'MQA' if self.kv_heads == 1 else 'GQA'} {self.heads}/{self.kv_heads}"
        if (own := getattr(self.mixer, "summary", "")) != "":
            attention = f"{own} {self.heads}"
        mlp = (
            {"silu": "SwiGLU", "gelu_pytorch_tanh": "GeGLU", "gelu": "GeGLU"}.get(self.activation, self.activation)
            if self.gated
            else self.activation
        )
        if self.experts is not None:
            mlp = f"{self.experts.active} of {self.experts.count} experts of {mlp} {self.experts.ffn}"
            mlp += f" beside a shared one of {self.experts.shared}" if self.experts.shared else ""
            dense = sum(self.at(layer).experts is None for layer in range(self.layers))
            mlp += f", {dense} layers dense" if dense else ""
        else:
            mlp = f"{mlp} {self.ffn}"
        width = f"{self.layers} layers, hidden {self.hidden}, {attention} × {self.head_dim}"
        words = f", {'tied' if self.tied else 'untied'}, vocab {self.vocab}" if self.vocab else ""
        return f"{width}, {mlp}{words}"
