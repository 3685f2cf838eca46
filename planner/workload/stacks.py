"""Training software as data: how a stack executes the same mathematics.

Each entry says what is fused, in which type gradients live, how data-parallel ranks exchange them, and what the
optimizer step launches. A stack is data and a few
switches, never a copy of the model. Sources: the projects' own code, named per entry.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from planner.errors import PlanError
from planner.words import nearest


@dataclass(frozen=True)
class Stack:
    """One training stack.

    fusion: `eager` runs one kernel per PyTorch operator; `kernels` has fused norm, rope, GLU and loss; `compiled` fuses elementwise chains (TorchInductor).
    loss: `upcast` keeps logits and an fp32 copy; `in-place` works in the fp32 copy; `compiled` never stores the fp32
    copy beside the logits; `chunked` computes
        head and loss in pieces and never stores the logits; `liger` does so with gradients formed in forward.
    early_stop: recomputation of a checkpointed block stops at the last tensor that backward needs (non-reentrant checkpoints).
    selective: what selective checkpointing recomputes: the `attention` core (Korthikanti et al. 2022,
    arXiv:2205.05198), or all but attention and every second
        matrix product (`operators`, torchtitan).
    cast_on_gather: fully sharded weights are gathered in the compute type (FSDP mixed precision).
    fp32_gradients: gradients are accumulated in fp32 beside lower-precision weights.
    master_by_default: lower-precision weights have an fp32 master copy in the optimizer.
    bucket_bytes: gradient bucket of data parallel [bytes], or where that is more, bucket_elements_per_replica times the replicas (Megatron-Core's
        max(40e6, 1e6 × replicas) elements); bucket_copies: whether a second copy of the gradients is kept in buckets.
    dropout: whether the config's dropout is active in training (pretraining stacks run without).
    clips: gradients are clipped by global norm each step.
    optimizer: implementation of AdamW when the run says just adamw: over all tensors at once, in one kernel, or in single operators of a graph.
    prefetch: blocks whose weights are gathered ahead.
    output_copies: fp32 copies of the logits that stay alive in backward under full sharding (accelerate's convert_outputs_to_fp32).
    requires_input_grad: under checkpointing the embeddings' output requires a gradient even when nothing below is trained.

    attention_kernels: fused attention of the stack, the first that the device has; the device's usual one when it has none of them.
    low_gradients: gradients in the weights' type, and their buckets, stay beside those that are accumulated in fp32.
    stages_by_cost: pipeline stages take layers by cost, the head's counted, and early ones take more (`estimate/partition.py`).
    keeps_dequantized: GPTQ weights are unpacked outside of the product, whose autograd then keeps them (GPT-QModel; not AutoGPTQ's Triton kernel).
    restores_type: outputs of 4-bit layers have their input's type (bitsandbytes' Linear4bit; what transformers 4 was measured with says otherwise).
    keeps_quantized_inputs: type in which 4-bit products keep a copy of their input; none where empty.
    unpacks_by_operators: 4-bit integer weights are unpacked by plain PyTorch operators (AutoGPTQ of 2023 in training, without Triton).
    keeps_gathered: fully sharded frozen weights stay gathered once they were used (PyTorch before 2.1 under use_orig_params).
    every_expert: runs transformers' modules, of which Llama 4's computes every expert on every token; other stacks route.
    counts_on_host: a mixture's processor waits for the number of tokens of each expert (torch.bincount, sizes of an all-to-all).
    routing_kernels: small kernels of a mixture's forward and backward beside those of the graph: scores, losses, counts, permutations.
    single_products: a mixture's products are launched expert by expert (Transformer Engine's GroupedLinear).
    regathers: sequence parallel keeps the divided input of a column-parallel layer and gathers it again for its weight gradient.
    wide_embedding_states: 8-bit optimizers keep the states of embeddings in 32 bits (transformers' Trainer.create_optimizer).
    zero_engine: DeepSpeed's engine, which fetches weights module by module and offloads states, gradients and weights each apart.
    scaled: library of fp8 and fp4 products; caches_scaled: quantised weights are kept from step to step.
    overlaps_gradients: gradients are exchanged beside the backward (DeepSpeed's overlap_comm is off by default below ZeRO-3).
    gathers_ahead: updated weights of a sharded optimizer are gathered beside the next forward (Megatron-Core's overlap-param-gather).
    quantizes_experts: each expert of a mixture is linear layers of its own, which a quantized base includes and which run one after the other
        (transformers 4).

    cuts_sent: each tensor-parallel rank sends its part of what goes to the next pipeline stage, which gathers it (Narayanan et al. 2021,
    arXiv:2104.04473, sec. 4.1; DeepSpeed's partitioned pipeline activations).

    context: kind of context parallel · deepest_sharding: what data-parallel ranks usually share at most.
    retains_split_graph: a backward in two parts, first of activations, keeps all that was saved until the second (torch's pipelining).

    pipelines: it can train with pipeline stages, so that a search proposes them.
    pipelines_gathered: fully sharded pipeline stages keep weights gathered and gradients whole over all micro batches of a step (torch's pipelining).
    upcasts_trained: fully sharded trained weights are stored in fp32 under mixed precision, whatever they were loaded in (accelerate since 0.31).
    defers_reduction: fully sharded gradients stay whole, in the compute type, until the last of several micro steps (accelerate's no_sync).
    experts_apart: experts are no part of full sharding; only expert parallelism divides them (fms-acceleration's accelerated-moe, which FSDP ignores).
    own_modules: model code of its own instead of transformers', with one kernel for GELU's approximation by tanh.
    joined_qkv: queries, keys and values are one product, and grouped heads are copied for every query head before attention (LitGPT).
    loss_over_ranks: under tensor parallelism the loss is torch's `loss_parallel`, operator by operator in fp32, compiled or not.

    The CPU cost of issuing operators and the like are fitted constants: `estimate/data/constants.json`, by stack name.
    """

    name: str
    label: str
    help: str
    reference: str
    fusion: Literal["eager", "kernels", "compiled"] = "eager"
    loss: Literal["upcast", "in-place", "compiled", "chunked", "liger"] = "upcast"
    early_stop: bool = True
    selective: Literal["attention", "operators"] = "attention"
    cast_on_gather: bool = True
    fp32_gradients: bool = False
    master_by_default: bool = False
    bucket_bytes: float = 25 * 2**20
    bucket_elements_per_replica: float = 0.0
    bucket_copies: bool = True
    dropout: bool = True
    clips: bool = True
    optimizer: Literal["foreach", "fused", "operators"] = "foreach"
    prefetch: int = 1
    output_copies: int = 0
    requires_input_grad: bool = False
    quantizes_experts: bool = False
    counts_on_host: bool = False
    routing_kernels: tuple[int, int] = (0, 0)
    single_products: bool = False
    regathers: bool = False
    low_gradients: bool = False
    stages_by_cost: bool = False
    keeps_quantized_inputs: str = ""
    unpacks_by_operators: bool = False
    keeps_dequantized: bool = False
    restores_type: bool = False
    keeps_gathered: bool = False
    every_expert: bool = False
    attention_kernels: tuple[str, ...] = ()
    wide_embedding_states: bool = False
    scaled: Literal["transformer-engine", "torchao"] = "torchao"
    caches_scaled: bool = False
    gathers_ahead: bool = False
    overlaps_gradients: bool = True
    cuts_sent: bool = False
    context: Literal["ring", "all-gather", "ulysses"] = "ring"
    deepest_sharding: Literal["zero1", "zero3"] = "zero3"
    retains_split_graph: bool = True
    pipelines: bool = True
    pipelines_gathered: bool = False
    zero_engine: bool = False
    loss_over_ranks: bool = False
    upcasts_trained: bool = False
    defers_reduction: bool = False
    experts_apart: bool = False
    own_modules: bool = False
    joined_qkv: bool = False


_HUGGING_FACE: dict[str, Any] = {"pipelines": False, "every_expert": True, "output_copies": 1, "requires_input_grad": True, "wide_embedding_states": True,
                                  "upcasts_trained": True, "defers_reduction": True}  # fmt: skip
_MEGATRON_ROUTING = (75, 100)
"""Counted in megatron/core/transformer/moe: router and auxiliary loss 30, counts and their exchange 15, permutation, sorting of chunks and their
inverses 30; backward repeats the permutations and the losses' gradients."""

STACKS: dict[str, Stack] = {
    stack.name: stack
    for stack in (
        Stack(
            "hf",
            "Hugging Face Trainer",
            "transformers 5 + peft + accelerate, eager PyTorch.",
            "transformers 5.24 modeling code; accelerate FSDP/DDP",
            keeps_dequantized=True,
            restores_type=True,
            **_HUGGING_FACE,
        ),
        Stack(
            "hf-4",
            "Hugging Face Trainer, transformers 4",
            "The same with reentrant checkpoints, which recompute whole blocks.",
            "transformers 4 Trainer defaults",
            early_stop=False,
            quantizes_experts=True,
            **_HUGGING_FACE,
        ),
        Stack(
            "hf-kernels",
            "Hugging Face Trainer with fused kernels",
            "Fused norm, rope, GLU and loss (Liger without its fused head, fms-acceleration).",
            "Hsu et al. 2024, arXiv:2410.10989; foundation-model-stack/fms-acceleration",
            "kernels",
            "in-place",
            early_stop=False,
            quantizes_experts=True,
            **_HUGGING_FACE,
        ),
        Stack(
            "hf-liger",
            "Hugging Face Trainer with Liger kernels",
            "Fused kernels, and head and loss in chunks: the logits are never stored.",
            "Hsu et al. 2024, arXiv:2410.10989",
            "kernels",
            "liger",
            early_stop=False,
            quantizes_experts=True,
            **{**_HUGGING_FACE, "output_copies": 0},
        ),
        Stack(
            "hf-compile",
            "Hugging Face Trainer, compiled",
            "The same under torch.compile.",
            "torch 2.13 TorchInductor",
            "compiled",
            "compiled",
            keeps_dequantized=True,
            restores_type=True,
            **_HUGGING_FACE,
        ),
        Stack(
            "torchtitan",
            "torchtitan",
            "FSDP2 with torch.compile per block and for the loss.",
            "pytorch/torchtitan",
            "compiled",
            "compiled",
            pipelines_gathered=True,
            loss_over_ranks=True,
            context="all-gather",
            selective="operators",
            bucket_copies=False,
            optimizer="fused",
            dropout=False,
        ),
        Stack(
            "megatron",
            "Megatron-Core",
            "Fused kernels, half-precision weights with fp32 main gradients and masters.",
            "NVIDIA/Megatron-LM",
            "kernels",
            "in-place",
            early_stop=False,
            cast_on_gather=False,
            fp32_gradients=True,
            master_by_default=True,
            bucket_bytes=4 * 40e6,
            bucket_elements_per_replica=1e6,
            bucket_copies=False,
            optimizer="fused",
            regathers=True,
            scaled="transformer-engine",
            caches_scaled=True,
            deepest_sharding="zero1",
            retains_split_graph=False,
            cuts_sent=True,
            counts_on_host=True,
            routing_kernels=_MEGATRON_ROUTING,
            single_products=True,
        ),
        Stack(
            "nemo",
            "NeMo",
            "Megatron-Core with NeMo's performance recipes: tensor-parallel collectives beside the products.",
            "NVIDIA-NeMo/NeMo performance recipes",
            "kernels",
            "in-place",
            early_stop=False,
            cast_on_gather=False,
            fp32_gradients=False,  # the recipes' grad_reduce_in_fp32=False
            master_by_default=True,
            bucket_bytes=4 * 40e6,
            bucket_elements_per_replica=1e6,
            bucket_copies=False,
            optimizer="fused",
            regathers=True,
            scaled="transformer-engine",
            caches_scaled=True,
            deepest_sharding="zero1",
            retains_split_graph=False,
            attention_kernels=("cudnn", "flash3"),
            gathers_ahead=True,
            cuts_sent=True,
            counts_on_host=True,
            routing_kernels=_MEGATRON_ROUTING,
            single_products=True,
        ),
        Stack(
            "deepspeed",
            "DeepSpeed",
            "ZeRO with Hugging Face models.",
            "deepspeedai/DeepSpeed runtime/zero",
            zero_engine=True,
            overlaps_gradients=False,
            context="ulysses",
            every_expert=True,
            early_stop=False,
            master_by_default=True,
            cast_on_gather=False,
            bucket_bytes=5e8,
            bucket_copies=False,
            optimizer="fused",
            scaled="transformer-engine",
            cuts_sent=True,
        ),
        Stack(
            "composer",
            "Composer / llm-foundry",
            "FSDP with MosaicML's MPT: flash attention, low-precision LayerNorm.",
            "mosaicml/llm-foundry",
            "kernels",
            "upcast",
            early_stop=False,
            dropout=False,
            scaled="transformer-engine",
            pipelines=False,
        ),
        Stack(
            "nanotron",
            "nanotron",
            "3D parallelism in plain PyTorch: flash attention, fp32 gradient accumulation and masters.",
            "huggingface/nanotron",
            "eager",
            "in-place",
            own_modules=True,
            early_stop=False,
            cast_on_gather=False,
            fp32_gradients=True,
            master_by_default=True,
            bucket_copies=True,
            low_gradients=True,
            stages_by_cost=True,
            optimizer="fused",
            dropout=False,
            regathers=True,
            deepest_sharding="zero1",
        ),
        Stack(
            "maxtext",
            "MaxText",
            "JAX under XLA: compiled whole steps, fully sharded.",
            "AI-Hypercomputer/maxtext",
            "compiled",
            "compiled",
            bucket_copies=False,
            optimizer="fused",
            dropout=False,
        ),
        Stack(
            "litgpt",
            "LitGPT",
            "Lightning Fabric FSDP.",
            "Lightning-AI/litgpt",
            "eager",
            "in-place",  # head in chunks of 128 tokens, all of which wait for the loss: measured peaks show some 8 bytes a logit
            dropout=False,
            clips=False,
            scaled="transformer-engine",
            keeps_gathered=True,
            keeps_quantized_inputs="fp32",
            own_modules=True,
            joined_qkv=True,
            pipelines=False,
        ),
        Stack(
            "torchtune",
            "torchtune",
            "Recipes on FSDP2.",
            "pytorch/torchtune",
            "eager",
            "upcast",
            own_modules=True,
            dropout=False,
            optimizer="fused",
            clips=False,
            pipelines=False,
        ),
    )
}


def _variant(base: str, name: str, *, label: str, help: str, **changes: Any) -> None:
    """Register a stack that differs from another in a few traits."""
    STACKS[name] = replace(STACKS[base], name=name, label=label, help=help, **changes)


_variant(
    "litgpt",
    "litgpt-compile",
    label="LitGPT, compiled",
    help="Lightning Fabric FSDP with torch.compile or Thunder, as its pretraining runs.",
    fusion="compiled",
    loss="compiled",
)
_variant(
    "torchtitan",
    "torchtitan-eager",
    label="torchtitan, not compiled",
    help="FSDP2 with plain PyTorch operators.",
    fusion="eager",
    loss="upcast",
    own_modules=True,
)
_variant(
    "torchtitan",
    "torchtitan-2024",
    label="torchtitan of 2024",
    help="FSDP2 with torch.compile per block, the loss in plain PyTorch operators (before compile.components).",
    loss="upcast",
)
_variant(
    "torchtitan",
    "torchtitan-async-tp",
    label="torchtitan, asynchronous tensor parallelism",
    help="FSDP2 with torch.compile per block, and tensor-parallel collectives split and run beside the products.",
    reference="pytorch/torchtitan, parallelism.enable_async_tensor_parallel",
)
_variant(
    "hf",
    "hf-scattermoe",
    label="Hugging Face Trainer with ScatterMoE",
    help="One Triton product over all experts of a mixture, slower than the libraries' grouped products.",
    reference="Tan et al. 2024, arXiv:2403.08245; foundation-model-stack/fms-acceleration, accelerated-moe",
    counts_on_host=True,
    experts_apart=True,
)
_variant(
    "hf-4",
    "hf-4-gptq",
    label="Hugging Face Trainer, transformers 4, AutoGPTQ of 2023",
    help="The same where PyTorch operators unpack 4-bit integer weights.",
    reference="AutoGPTQ 0.4 qlinear_cuda_old.py, which training ran with exllama's kernels switched off",
    unpacks_by_operators=True,
)
_variant(
    "deepspeed",
    "deepspeed-kernels",
    label="DeepSpeed with its transformer kernels",
    help="One fused layer for encoders: bias, dropout, residual, norm and GELU in few kernels.",
    reference="deepspeedai/DeepSpeed ops/transformer/transformer.py; Rasley et al. 2020, doi 10.1145/3394486.3406703",
    fusion="kernels",
)
_variant(
    "hf-compile",
    "tensorflow",
    label="TensorFlow 1 with Horovod",
    help="XLA fuses the model; gradients are exchanged and clipped before an update of single operators.",
    reference="NVIDIA/DeepLearningExamples TensorFlow/LanguageModeling/BERT: optimization.py, Horovod's DistributedOptimizer",
    optimizer="operators",
    overlaps_gradients=False,
)
_variant(
    "nanotron",
    "nanotron-blocking",
    label="nanotron, blocking pipelines",
    help="nanotron where every tensor between pipeline stages holds both of them up, as in part of its published sweep.",
    reference="nanotron/ultrascale-playbook, benchmark data",
)


def find_stack(name: str) -> Stack:
    """A registered stack. Raises `PlanError` for another name."""
    if name not in STACKS:
        raise PlanError("stack", name, "is not a known training stack", f"{nearest(name, STACKS)}Use one of {', '.join(STACKS)}.")
    return STACKS[name]
