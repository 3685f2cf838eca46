"""What may have run in place of what was planned: changes of the plan, none of them judged yet.

Each says what the run would have been, how the plan says it, and what to change in the run so that it is as planned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from planner.estimate.result import Estimate
from planner.logs.seen import Seen
from planner.run import Run

HALF: Final = ("bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Trial:
    """key: its name · title: what would have run · change: the plan of that · remedy: what makes the run as planned, one sentence or nothing."""

    key: str
    title: str
    change: dict[str, Any]
    remedy: str = ""

    @property
    def name(self) -> str:
        """The title within a sentence, without its explanation."""
        return inside(self.title.partition(":")[0])


def inside(title: str) -> str:
    """A title within a sentence: a name at its start keeps its capital."""
    return title[:1].lower() + title[1:] if title[1:2].islower() and not title.startswith(("PyTorch", "Liger")) else title


def trials(plan: Estimate, seen: Seen) -> Iterator[Trial]:
    """All that is worth an estimate for this plan. plan: with what the log is certain of already in it."""
    run = plan.run
    yield from _attention(run)
    yield from _fusion(run)
    yield from _precision(run)
    yield from _checkpoints(run)
    yield from _batch(run, seen)
    yield from _lengths(plan, seen)
    if run.optimizer == "adamw" and run.stack.startswith("hf"):
        yield Trial("fused-optimizer", "The fused optimizer", {"optimizer": "adamw-fused"})
    if run.method.name in ("lora", "dora", "rslora", "qlora") and run.task == "sft" and run.method.name != "qlora":
        change = {"method": {"name": "full"}, "precision": None}
        yield Trial("full", "All weights trained in place of adapters", change, "Check that the adapters are attached.")


def _attention(run: Run) -> Iterator[Trial]:
    if run.attention != "eager":
        yield Trial(
            "eager", "Eager attention: no fused kernel", {"attention": "eager"}, 'Load the model with attn_implementation="sdpa" or "flash_attention_2".'
        )
    if run.attention == "flash":
        title = "PyTorch's own fused attention (sdpa) in place of FlashAttention"
        yield Trial("sdpa", title, {"attention": "sdpa"}, "Install flash-attn for this torch and GPU.")
    if run.attention == "eager":
        yield Trial("fused", "Fused attention (sdpa)", {"attention": "sdpa"})


def _fusion(run: Run) -> Iterator[Trial]:
    if run.stack in ("hf-compile", "hf-liger"):
        words = "Unfused kernels: torch.compile was not active" if run.stack == "hf-compile" else "fp32 logits and unfused kernels: Liger was not active"
        fix = "torch_compile=True" if run.stack == "hf-compile" else "use_liger_kernel=True, with liger-kernel installed"
        yield Trial("unfused", words, {"stack": "hf"}, f"Pass {fix} to TrainingArguments.")
    if run.stack == "hf":
        yield Trial("liger", "Loss in chunks and fused kernels (Liger): no fp32 logits", {"stack": "hf-liger"})
        yield Trial("compiled", "torch.compile", {"stack": "hf-compile"})
    if run.stack == "torchtitan":
        title = "Unfused kernels: torch.compile was not active, fp32 logits stand beside bf16 ones"
        yield Trial("unfused", title, {"stack": "torchtitan-eager"}, "Set compile.enable = true.")


def _precision(run: Run) -> Iterator[Trial]:
    precision = run.precision
    if precision is None:
        return
    own = run.method.name in ("full", "freeze")
    if precision.compute in HALF and precision.weights in (*HALF, "fp32"):
        yield Trial(
            "fp32", "fp32 products: mixed precision was not active", {"precision": {"weights": "fp32", "compute": "fp32"}},
            f"Pass {precision.compute}=True to the trainer, or load the model in {precision.compute}.",
        )  # fmt: skip
    if precision.compute in HALF and precision.weights in HALF and not precision.master_weights:
        yield Trial(
            "fp32-weights", "fp32 weights under autocast", {"precision": {"weights": "fp32", "compute": precision.compute, "autocast": True}},
            f"Load the model with dtype=torch.{'bfloat16' if precision.compute == 'bf16' else 'float16'}.",
        )  # fmt: skip
    if precision.compute in HALF and precision.autocast and precision.weights == "fp32" and own:
        yield Trial("half-weights", f"Weights in {precision.compute} throughout", {"precision": {"weights": precision.compute, "compute": precision.compute}})
    if precision.compute == "fp32":
        yield Trial("tf32", "TF32 products", {"precision": {"weights": "fp32", "compute": "tf32"}})
        yield Trial("autocast", "bf16 autocast", {"precision": {"weights": "fp32", "compute": "bf16", "autocast": True}})
    if precision.compute == "tf32":
        yield Trial(
            "fp32", "fp32 products: TF32 was off", {"precision": {"weights": "fp32", "compute": "fp32"}},
            'Call torch.set_float32_matmul_precision("high"), or pass tf32=True to the trainer.',
        )  # fmt: skip


def _checkpoints(run: Run) -> Iterator[Trial]:
    if run.activation_checkpointing != "full":
        yield Trial(
            "recomputed", "Activations of every layer recomputed", {"activation_checkpointing": "full"}, "Turn gradient checkpointing off, or plan it."
        )
    if run.activation_checkpointing != "none":
        yield Trial("kept", "Nothing recomputed: all activations kept", {"activation_checkpointing": "none"}, "Turn gradient checkpointing on.")


def _batch(run: Run, seen: Seen) -> Iterator[Trial]:
    """Where the log does not say the batch."""
    if seen.micro is None and seen.global_batch is None:
        if run.batch.micro > 1:
            yield Trial("smaller-batch", "Half the micro batch", {"batch.micro": run.batch.micro // 2}, f"Set the micro batch to {run.batch.micro}.")
        yield Trial("larger-batch", "Twice the micro batch", {"batch.micro": run.batch.micro * 2}, f"Set the micro batch to {run.batch.micro}.")
    if seen.global_batch is None and run.batch.accumulation > 1:
        yield Trial("no-accumulation", "No gradient accumulation, or a log of micro steps", {"batch.accumulation": 1})


def _lengths(plan: Estimate, seen: Seen) -> Iterator[Trial]:
    """Fewer real tokens in a step than planned: sequences that were shorter; padding that was computed changes no time."""
    tokens, planned, length = seen.tokens, plan.details.get("tokens_per_step"), plan.run.batch.seq_len
    if not tokens or not planned or not length or abs(tokens / planned - 1) < 0.03:
        return
    mean = max(1, round(length * tokens / planned))
    if mean < length or plan.run.data is None:
        yield Trial("shorter", f"Sequences of {mean:,} tokens in the mean in place of {length:,}", {"batch.seq_len": mean})
