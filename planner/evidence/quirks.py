"""Why some rows cannot agree with their configuration: known facts about single sources, shown beside the worst rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from planner.evidence.rows import Row

Quantity = Literal["tokens", "memory"]


@dataclass(frozen=True, slots=True)
class Quirk:
    """One fact: which rows of which source it concerns, which quantity, and the reason in words.

    contradicts: the measured figure belongs to another configuration than the row's columns say, so that it says nothing about how
        good a prediction is; such rows are scored and shown like all others but make no interval.
    """

    source: str
    quantity: Quantity
    concerns: Callable[[Row], bool]
    reason: str
    contradicts: bool = False


def _several(row: Row) -> bool:
    return (row.gpus or 1) > 1


def _variant(row: Row, *words: str) -> bool:
    return any(word in (row.variant or "") for word in words)


QUIRKS: Final = (
    Quirk(
        "fms", "memory", lambda r: r.id.startswith("fmsH-ff14d4f") and r.method == "full" and _several(r) and not r.experts,
        "20 bytes a parameter are measured, those of fp32 weights, which accelerate makes of bf16 ones under mixed precision; the columns say bf16 throughout",
        contradicts=True,
    ),
    Quirk(
        "fms", "tokens", lambda r: _several(r) and (r.seq_len or 0) < 1000,
        "a few hundred tokens a step: the processor's work for each sharded unit takes longer than the kernels",
    ),
    Quirk(
        "ms-swift", "memory", lambda r: (r.packing_or_padding or "").startswith(("longer", "not packed")) or (r.seq_len or 0) >= 4096,
        "samples of different length: the allocator's cache is fragmented, which no column tells",
    ),
    Quirk(
        "litgpt", "memory", lambda r: _several(r) and r.method in ("lora", "qlora"),
        "fully sharded data parallel of PyTorch before 2.1 keeps frozen weights gathered once they were used",
    ),
    Quirk(
        "litgpt", "memory", lambda r: _several(r) and r.method == "full",
        "the peak is that of writing the checkpoint, when the whole model is gathered",
        contradicts=True,
    ),
    Quirk(
        "nanotron", "tokens", lambda r: (r.pp or 1) > 1,
        "pipelines of this sweep lose nothing, or 0.27 s in every transfer between stages; the columns tell nine times in ten which",
    ),
    Quirk(
        "qwen", "tokens", lambda r: r.method == "qlora" and (r.seq_len or 0) <= 1024,
        "GPTQ's kernels of 2023 are slow for few tokens",
    ),
    Quirk(
        "qwen", "tokens", lambda r: _several(r),
        "DeepSpeed exchanges gradients in every micro step; some rows span two machines with an unknown network",
    ),
    Quirk(
        "deepspeed", "tokens", lambda r: r.sharding == "zero3",
        "ZeRO-3 without prefetch: every module waits for its weights",
    ),
    Quirk(
        "fsdp-qlora", "tokens", lambda r: _several(r),
        "GPUs without peer access exchange weights through host memory",
    ),
    Quirk(
        "mlperf", "tokens", lambda r: "100GbE InfiniBand" in (r.interconnect or ""),
        "a step takes 0.19 s, in which the 100 Gb/s a machine that are told cannot carry 16 GB of gradients (1.1 s): the network is another one",
        contradicts=True,
    ),
    Quirk(
        "megatron", "tokens", lambda r: r.sharding == "zero3",
        "gathers module by module over up to 2240 GPUs at 25 GB/s a machine, where whole blocks at the adapters' rate are planned",
    ),
    Quirk(
        "torchtitan", "tokens", lambda r: bool(r.experts) and "DeepSeek" in (r.model or ""),
        "a step of this mixture never falls below 40 to 60 ms a layer, whatever the tokens, for a reason that is not told",
    ),
    Quirk(
        "peft", "tokens", lambda r: r.method == "oft" and "-2025-06-" in r.id,
        "OFT of June 2025 solved linear systems where it multiplies today",
    ),
    Quirk(
        "peft", "tokens", lambda r: True,
        "versions of the library differ by up to 40 % on the same configuration (see the repeats)",
    ),
)  # fmt: skip


def reason_of(row: Row, quantity: Quantity) -> str | None:
    """The first known reason why this row's quantity is off; None where there is none."""
    return next(
        (q.reason for q in QUIRKS if q.source == row.source_group and q.quantity == quantity and q.concerns(row)), None
    )


def contradicts(row: Row, quantity: Quantity) -> bool:
    """Whether the measured figure is known to belong to another configuration than the columns say."""
    return any(
        q.contradicts and q.source == row.source_group and q.quantity == quantity and q.concerns(row) for q in QUIRKS
    )
