"""The `method` part of a run: which parameters are trained, validated. No formulas.

Fields have this project's names; peft's own (`r`, `lora_alpha`, `target_modules`, `n_frequency`, …) are accepted for the same things.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from planner import words
from planner.parts import Positive

Size = Annotated[int, Field(ge=1, le=65536, strict=True)]
Index = Annotated[int, Field(ge=0, le=10**7, strict=True)]
Layer = Annotated[int, Field(ge=0, le=10**5, strict=True)]

PEFT_NAMES = {
    "target_r": "rank",
    "init_r": "initial_rank",
    "init_weights": "init_lora_weights",
    "oft_block_size": "block_size",
    "boft_block_size": "block_size",
    "vera_dropout": "dropout",
    "vblora_dropout": "dropout",
    "miss_dropout": "dropout",
    "randlora_dropout": "dropout",
    "module_dropout": "dropout",
    **dict.fromkeys(
        ("hira_dropout", "gralora_dropout", "pvera_dropout", "deft_dropout", "psoft_dropout", "unilora_dropout"),
        "dropout",
    ),
    **dict.fromkeys(("tinylora_dropout", "frod_dropout"), "dropout"),
    "effective_rank": "rank",
    "num_ranks": "rank",
    "num_tasks": "tasks",
    "theta_d_length": "vector_length",
    "u": "vector_length",
    "decomposition_method": "variant",
}
"""peft's names that mean a field whose alias is another of them."""


class Method(BaseModel):
    """Which parameters are trained. Each method file under `workload/methods` says which of these fields it reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)

    name: str = Field(
        "full", max_length=64, description="Fine-tuning method; `planner doctor --methods` lists all with their fields."
    )
    rank: Size | None = Field(None, alias="r", description="Rank of the low-rank update.")
    alpha: Positive | None = Field(None, alias="lora_alpha", description="Scale of the low-rank update; costs nothing.")
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, alias="lora_dropout", description="Dropout on the adapter's input."
    )
    targets: str | tuple[str, ...] | None = Field(
        None,
        alias="target_modules",
        description="Adapted linear layers (ln_tuning: norms): module names, a regular expression, or all-linear.",
    )
    exclude: str | tuple[str, ...] | None = Field(
        None, alias="exclude_modules", description="Modules that are not adapted though targets match them."
    )
    layers: Layer | tuple[Layer, ...] | None = Field(
        None, alias="layers_to_transform", description="Only these layers are adapted, counted from 0."
    )
    layers_pattern: str | tuple[str, ...] | None = Field(
        None, description="Name of the list of layers that `layers` counts; found by itself when left out."
    )
    rank_pattern: dict[str, Size] | None = Field(
        None, description="Another rank for the layers whose name ends in (or matches) the key."
    )
    alpha_pattern: dict[str, Positive] | None = Field(None, description="Another scale for some layers; costs nothing.")
    use_dora: bool | None = Field(None, description="lora: train a magnitude per row too (DoRA).")
    use_rslora: bool | None = Field(None, description="lora: scale by the root of the rank; costs nothing.")
    init_lora_weights: bool | str | None = Field(
        None, description="lora: how the update starts (gaussian, pissa, olora, …); costs nothing in a step."
    )
    bias: str | None = Field(
        None, max_length=32, description="Base biases that are trained too: none, all, or lora_only (adapted layers')."
    )
    token_indices: tuple[Index, ...] | None = Field(
        None, alias="trainable_token_indices", description="Tokens whose embeddings are trained beside the adapters."
    )
    adapters: Annotated[int, Field(ge=1, le=1000, strict=True)] | None = Field(
        None, description="Adapters of this kind in memory, of which one is active and trained."
    )
    adapter_dtype: Literal["fp32", "bf16", "fp16"] | None = Field(
        None, description="Storage of the adapters; peft upcasts to fp32."
    )
    modules_to_save: tuple[str, ...] | None = Field(None, description="Modules trained in full beside the adapters.")
    initial_rank: Size | None = Field(
        None, description="adalora: rank before pruning, which decides memory; `rank` is what remains."
    )
    block_size: Size | None = Field(None, description="oft, boft, c3a: size of one block of the update.")
    factor: Annotated[int, Field(ge=-1, le=65536, strict=True)] | None = Field(
        None, alias="decompose_factor", description="lokr: size of the small Kronecker factor; -1: near the root."
    )
    decompose_both: bool | None = Field(None, description="lokr: the small Kronecker factor is low-rank too.")
    frequencies: Annotated[int, Field(ge=1, le=10**8, strict=True)] | None = Field(
        None, alias="n_frequency", description="fourierft: trained spectral coefficients of a layer."
    )
    vectors: Size | None = Field(None, alias="num_vectors", description="vblora: vectors in the shared bank.")
    vector_length: Size | None = Field(
        None, description="vblora: length of one vector of the bank; unilora, tinylora: of the trained vector."
    )
    topk: Annotated[int, Field(ge=1, le=256, strict=True)] | None = Field(
        None, description="vblora: vectors mixed into one part of a layer."
    )
    blocks: Size | None = Field(
        None, alias="gralora_k", description="gralora: blocks that a layer's input and output are divided into."
    )
    hybrid_rank: Annotated[int, Field(ge=0, le=65536, strict=True)] | None = Field(
        None, alias="hybrid_r", description="gralora: rank of an ordinary LoRA update beside the blocks."
    )
    variant: str | None = Field(
        None, max_length=16, description="road: road_1, road_2 or road_4 (angles of a pair); deft: relu or qr."
    )
    group_size: Size | None = Field(None, description="road: features of one group that is rotated together.")
    stride: Size | None = Field(None, alias="stride_A", description="lily: layers in a row that share a projection.")
    experts: Size | None = Field(None, alias="num_B", description="lily: projections that a router mixes.")
    depth: Annotated[int, Field(ge=0, le=64, strict=True)] | None = Field(
        None, description="peanut: pairs of hidden layers of the network that makes the update."
    )
    sparsity: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="supertuning: part of a weight that is not trained."
    )
    tying: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, alias="weight_tying", description="tinylora: 0: a vector of its own for each layer, 1: one for all."
    )
    weight_path: Literal["lora", "vector", "constant", "none"] | None = Field(
        None, alias="config_A_B", description="glora: form of what scales the weight and of what is added to it."
    )
    input_path: Literal["lora", "vector", "none"] | None = Field(
        None, alias="config_C", description="glora: form of what the weight maps to a bias (layers with a bias)."
    )
    bias_path: Literal["vector", "constant", "none"] | None = Field(
        None, alias="config_D_E", description="glora: form of what scales the bias and of what is added to it."
    )
    tasks: Size | None = Field(None, alias="n_tasks", description="poly, multitask_prompt: tasks that are told apart.")
    skills: Size | None = Field(None, alias="n_skills", description="poly: adapters that a task mixes.")
    splits: Size | None = Field(None, alias="n_splits", description="poly: parts of a layer that are mixed apart.")
    frozen_tokens: Annotated[int, Field(ge=0, le=65536, strict=True)] | None = Field(
        None, alias="num_frozen_tokens", description="cartridge: first virtual tokens that are not trained."
    )
    period: Annotated[int, Field(ge=1, le=10**9, strict=True)] | None = Field(
        None,
        alias="update_proj_gap",
        description="galore: steps between two projections; lisa: between two choices of layers.",
    )
    active_layers: Annotated[int, Field(ge=1, le=10**5, strict=True)] | None = Field(
        None, description="lisa: layers trained at a time."
    )
    positions: str | None = Field(
        None, max_length=16, description="reft: edited tokens of a sequence, such as f5+l5 (first and last five)."
    )
    virtual_tokens: Size | None = Field(
        None, alias="num_virtual_tokens", description="Trained tokens put before the input (prompt, prefix)."
    )
    bottleneck: Size | None = Field(None, description="Width of an adapter's hidden layer.")
    placement: Literal["houlsby", "pfeiffer", "parallel"] | None = Field(
        None, description="adapter: behind attention and MLP, behind the MLP only, or beside the MLP."
    )
    encoder: Literal["mlp", "lstm"] | None = Field(None, description="p_tuning: what makes the virtual tokens.")
    encoder_hidden: Annotated[int, Field(ge=1, le=10**6, strict=True)] | None = Field(
        None, alias="encoder_hidden_size", description="Width of the prompt or prefix encoder's hidden layer."
    )
    projection: bool | None = Field(
        None, alias="prefix_projection", description="prefix: a two-layer MLP makes the keys and values."
    )
    adapter_layers: Annotated[int, Field(ge=1, le=10**5, strict=True)] | None = Field(
        None, description="adaption_prompt: this many last layers get a prompt."
    )
    trainable: str | tuple[str, ...] | None = Field(
        None, description="freeze: name part or regular expression of what is trained, one or several."
    )
    first: Layer | None = Field(None, description="freeze: keep this many first layers (and the embeddings) frozen.")
    last: Layer | None = Field(
        None, description="freeze: train only this many last layers (and a classification head)."
    )

    @model_validator(mode="before")
    @classmethod
    def _peft_names(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        named = words.method(value)
        return {PEFT_NAMES.get(key, key) if isinstance(key, str) else key: v for key, v in named.items()}

    @field_validator(
        "targets", "exclude", "layers", "layers_pattern", "token_indices", "modules_to_save", "trainable", mode="before"
    )
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value
