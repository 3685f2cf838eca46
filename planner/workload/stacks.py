"""Training software as data: how a stack executes the same mathematics.

Each entry says what is fused, in which type gradients live, how data-parallel ranks exchange them, and what the optimizer step launches. A stack is data and a few
switches, never a copy of the model. Sources: the projects' own code, named per entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from planner.errors import PlanError


@dataclass(frozen=True)
class Stack:
    """One training stack.

    fusion: `eager` runs one kernel per PyTorch operator; `kernels` has fused norm, rope, GLU and loss; `compiled` fuses elementwise chains (TorchInductor) and
        rebuilds cheap values in backward instead of keeping them.
    loss: `upcast` keeps logits and an fp32 copy; `in-place` works in the fp32 copy; `compiled` never stores the fp32 copy beside the logits.
    cast_on_gather: fully sharded weights are gathered in the compute type (FSDP mixed precision).
    fp32_gradients: gradients are accumulated in fp32 beside lower-precision weights.
    master_by_default: lower-precision weights have an fp32 master copy in the optimizer.
    dispatch: CPU cost of issuing one operator, relative to plain PyTorch.
    bucket_bytes: gradient bucket of data parallel [bytes]; buckets: whether a second copy of the gradients is kept in buckets.
    dropout: whether the config's dropout is active in training (pretraining stacks run without).
    clips: gradients are clipped by global norm each step.
    optimizer: implementation of AdamW when the run says just adamw.
    """

    name: str
    label: str
    help: str
    reference: str
    fusion: Literal["eager", "kernels", "compiled"] = "eager"
    loss: Literal["upcast", "in-place", "compiled"] = "upcast"
    cast_on_gather: bool = True
    fp32_gradients: bool = False
    master_by_default: bool = False
    dispatch: float = 1.0
    bucket_bytes: float = 25 * 2**20
    bucket_copies: bool = True
    dropout: bool = True
    clips: bool = True
    optimizer: Literal["foreach", "fused"] = "foreach"
    prefetch: int = 1


STACKS: dict[str, Stack] = {
    stack.name: stack
    for stack in (
        Stack("hf", "Hugging Face Trainer", "transformers + peft + accelerate, eager PyTorch.", "transformers 5.24 modeling code; accelerate FSDP/DDP"),
        Stack("hf-compile", "Hugging Face Trainer, compiled", "The same under torch.compile.", "torch 2.13 TorchInductor", "compiled", "compiled", dispatch=0.3),
        Stack("torchtitan", "torchtitan", "FSDP2 with torch.compile per block.", "pytorch/torchtitan", "compiled", "compiled", dispatch=0.35, bucket_copies=False,
              optimizer="fused", dropout=False),
        Stack("megatron", "Megatron-Core", "Fused kernels, bf16 weights with fp32 main gradients and masters.", "NVIDIA/Megatron-LM", "kernels", "in-place",
              cast_on_gather=False, fp32_gradients=True, master_by_default=True, dispatch=0.6, bucket_copies=False, optimizer="fused"),
        Stack("deepspeed", "DeepSpeed", "ZeRO with Hugging Face models.", "deepspeedai/DeepSpeed runtime/zero", master_by_default=True, cast_on_gather=False,
              bucket_bytes=5e8, bucket_copies=False, optimizer="fused"),
        Stack("composer", "Composer / llm-foundry", "FSDP with MosaicML's MPT: flash attention, low-precision LayerNorm.", "mosaicml/llm-foundry", "kernels", "upcast",
              dispatch=0.6, dropout=False),
        Stack("litgpt", "LitGPT", "Lightning Fabric FSDP.", "Lightning-AI/litgpt", "eager", "upcast", dropout=False, dispatch=0.7, clips=False),
        Stack("torchtune", "torchtune", "Recipes on FSDP2.", "pytorch/torchtune", "eager", "upcast", dropout=False, optimizer="fused", clips=False),
    )
}  # fmt: skip


def find_stack(name: str) -> Stack:
    """A registered stack. Raises `PlanError` for another name."""
    if name not in STACKS:
        raise PlanError("stack", name, "is not a known training stack", f"Use one of {', '.join(STACKS)}.")
    return STACKS[name]
