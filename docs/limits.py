"""The tables of docs/limits.md and docs/limits.zh.md: every number is an estimate made when this runs, so that none can go stale."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from planner import estimate, units
from planner.catalog import find_accelerator
from planner.device import default_profile
from planner.estimate.result import Estimate
from planner.run import parse_run
from planner.summary import verdict
from planner.workload.methods import METHODS

V100 = "V100 SXM2 32GB"
BERT = "google-bert/bert-base-uncased"
GPT = {
    "model_type": "gpt2", "n_layer": 40, "n_embd": 5120, "n_head": 40, "n_positions": 2048, "vocab_size": 50257, "_name_or_path": "GPT 12.8B",
}  # fmt: skip
"""A GPT of 12.8 billion parameters, the size that the document names: GPT-3 13B of Brown et al. 2020, table 2.1, is as deep and as wide."""
TUNED: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    "freeze": {"name": "freeze", "last": 2},
    "adapter": {"name": "adapter", "bottleneck": 64},
    "lora": {"name": "lora", "rank": 16, "targets": "all-linear"},
    "ia3": {"name": "ia3"},
    "bitfit": {"name": "bitfit"},
    "prompt": {"name": "prompt", "virtual_tokens": 20},
    "p_tuning": {"name": "p_tuning", "virtual_tokens": 20},
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of markdown, the first column to the left."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


@cache
def _made(text: str) -> Estimate:
    return estimate(parse_run(json.loads(text)))


def plan(**run: Any) -> Estimate:
    """The estimate of a run, made once."""
    return _made(json.dumps(run, sort_keys=True))


def products(head: Sequence[str]) -> str:
    """One product of two square matrices on one V100: work, and time in fp32 on the ordinary units and in fp16 on the tensor cores."""
    profile = default_profile(find_accelerator(V100))
    rows = []
    for n in (128, 512, 1024, 4096, 8192):
        times = [float(profile.matmul_seconds(n, n, n, dtype)) for dtype in ("fp32", "fp16")]
        rates = [units.format_flops(2.0 * n**3 / t, per_second=True) for t in times]
        work = units.format_flops(2.0 * n**3)
        rows.append((f"{n:,} × {n:,}", work, units.format_seconds(times[0]), rates[0], units.format_seconds(times[1]), rates[1]))
    return table(head, rows)


def attention(head: Sequence[str]) -> str:
    """Share of attention's own products, 4·s²·h a layer forward, in all products of one layer of Llama-3.1-8B, at several lengths."""
    rows = []
    for length in (512, 2048, 8192, 32768, 131072):
        e = plan(model="meta-llama/Llama-3.1-8B", method="lora", batch={"micro": 1, "seq_len": length}, activation_checkpointing="full")
        work = {name: e.total(f"flops/forward/{name}") for name in ("matmul", "attention")}
        share = work["attention"] / sum(work.values())
        time = sum(t.value for t in e.terms if t.name.startswith("time/") and t.name.endswith("/attention"))
        shares = (units.format_percent(part, 2) for part in (share, time / (e.step_time_s or 1)))
        rows.append((f"{length:,}", units.format_flops(work["attention"]), *shares))
    return table(head, rows)


def gpt_plan(**way: Any) -> Estimate:
    """The GPT on four V100, trained in this way."""
    return plan(
        model=GPT, hardware={"gpu": V100, "gpus": 4}, batch={"micro": 1, "accumulation": 8, "seq_len": 1024},
        activation_checkpointing="full", attention="sdpa", data={"tokens": "10M"}, **way,
    )  # fmt: skip


def gpt(head: Sequence[str]) -> str:
    """The GPT of 12.8B on four V100: ways to train it, whether they fit, and what 300 billion tokens, or 10 million for fine-tuning, take."""
    ways: tuple[tuple[str, dict[str, Any]], ...] = (
        ("fp16-mixed, AdamW, DDP", {"method": "full", "precision": "fp16-mixed", "parallel": {"sharding": "ddp"}}),
        ("fp16-mixed, AdamW, ZeRO-3", {"method": "full", "precision": "fp16-mixed", "parallel": {"sharding": "zero3"}}),
        ("ZeRO-3, offload optimizer+params", {"method": "full", "precision": "fp16-mixed", "parallel": {"sharding": "zero3"}, "offload": "optimizer+params"}),
        ("LoRA, ZeRO-3", {"method": {"name": "lora", "rank": 16, "targets": "all-linear"}, "precision": "fp16-mixed", "parallel": {"sharding": "zero3"}}),
        ("QLoRA, DDP", {"method": {"name": "qlora", "rank": 16, "targets": "all-linear"}, "parallel": {"sharding": "ddp"}}),
    )
    rows = []
    for name, way in ways:
        e = gpt_plan(**way)
        rows.append((
            name, f"{units.format_bytes(e.peak_reserved_bytes)} / {units.format_bytes(e.usable_memory_bytes or 0.0)}",
            verdict(e).sentence.partition(":")[0].partition(",")[0],
            units.format_seconds(e.step_time_s), units.format_percent(e.mfu or 0.0, 2), units.format_seconds(e.total_time_s),
        ))  # fmt: skip
    return table(head, rows)


def gpt_work(words: str) -> str:
    """What one step of the GPT costs, put into a sentence with places."""
    e = gpt_plan(method="full", precision="fp16-mixed", parallel={"sharding": "zero3"})
    per_token = e.flops_per_step / float(e.details["tokens_per_step"])
    pace = 4 * 15.7e12
    return words.format(
        parameters=units.format_count(e.parameters), token=units.format_flops(per_token), step=units.format_flops(e.flops_per_step),
        tokens=units.format_integer(e.details["tokens_per_step"]), ideal=units.format_seconds(e.flops_per_step / pace),
        states=units.format_bytes(16.0 * e.parameters), four=units.format_bytes(4 * 32 * units.GIB),
    )  # fmt: skip


def bert(head: Sequence[str]) -> str:
    """BERT base on one V100, 32 sequences of 128 tokens, with each method: what is trained, what a step costs, beside full fine-tuning."""
    made = {
        name: plan(model=BERT, method=method, precision="fp16-mixed", hardware={"gpu": V100}, batch={"micro": 32, "seq_len": 128}, data={"tokens": "10M"})
        for name, method in TUNED.items()
    }
    base = made["full"]
    rows = []
    for name, e in made.items():
        rows.append((
            METHODS[name].label, f"{units.format_count(e.trainable_parameters)} ({units.format_percent(e.trainable_parameters / e.parameters, 2)})",
            f"{e.flops_per_step / base.flops_per_step:.2f}", f"{(e.step_time_s or 0) / (base.step_time_s or 1):.2f}", units.format_seconds(e.step_time_s),
            units.format_bytes(e.peak_memory_bytes),
        ))  # fmt: skip
    return table(head, rows)


def lora(head: Sequence[str]) -> str:
    """LoRA beside full fine-tuning, by model: share of parameters, of FLOP, of time, of memory."""
    rows = []
    for model in ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-32B"):
        full, low = (
            plan(
                model=model, method=method, precision="bf16", hardware={"gpu": "H100 SXM 80GB"},
                batch={"micro": 1, "accumulation": 8, "seq_len": 2048}, activation_checkpointing="none",
            )
            for method in ("full", {"name": "lora", "rank": 16, "targets": "all-linear"})
        )  # fmt: skip
        rows.append((
            model.partition("/")[2], "1", units.format_percent(low.trainable_parameters / low.parameters, 2),
            f"{low.flops_per_step / full.flops_per_step:.2f}", f"{(low.step_time_s or 0) / (full.step_time_s or 1):.2f}",
            units.format_bytes(full.peak_memory_bytes), units.format_bytes(low.peak_memory_bytes),
        ))  # fmt: skip
    return table(head, rows)


def precision(head: Sequence[str]) -> str:
    """BERT base in full in several number formats on a V100 and an A100: step time, what it is beside fp32, memory."""
    rows = []
    for gpu, names in ((V100, ("fp32", "fp16-mixed")), ("A100 SXM4 80GB", ("fp32", "tf32", "fp16-mixed", "bf16-mixed", "bf16"))):
        base = None
        for name in names:
            e = plan(model=BERT, method="full", precision=name, hardware={"gpu": gpu}, batch={"micro": 64, "seq_len": 512})
            base = base or e
            rows.append((
                f"{gpu}, {name}", units.format_seconds(e.step_time_s), f"{(base.step_time_s or 0) / (e.step_time_s or 1):.1f} ×",
                units.format_percent(e.mfu or 0.0, 2), units.format_bytes(e.peak_memory_bytes),
            ))  # fmt: skip
    return table(head, rows)


PARTS: dict[str, Callable[[Any], str]] = {
    "products": products, "attention": attention, "gpt-work": gpt_work, "gpt": gpt, "bert": bert, "lora": lora, "precision": precision,
}  # fmt: skip
"""What each marker of the documents is replaced by, from its words: the heads of a table, or a sentence with places."""


def in_words(words: dict[str, str | tuple[str, ...]]) -> dict[str, Callable[[], str]]:
    """The parts in the words of one language."""
    return {name: partial(PARTS[name], said) for name, said in words.items()}


ENGLISH = in_words({
    "products": ("matrices", "work", "fp32", "rate", "fp16, tensor cores", "rate"),
    "attention": ("sequence [tokens]", "attention, forward", "of the FLOP forward", "of the step's time"),
    "gpt-work": (
        "A step of {tokens} tokens is {step}, {token} for each token. Four V100 at their whole fp32 peak of 15.7 TFLOP/s would take {ideal} for it, "
        "not 0.008 s. And weights, gradients and AdamW's states of {parameters} parameters are {states}, where four cards have {four} together."
    ),
    "gpt": ("way", "peak per GPU / usable", "verdict", "step", "MFU", "10M tokens"),
    "bert": ("method", "trained", "FLOP beside full", "time beside full", "step", "peak memory"),
    "lora": ("model", "H100", "trained", "FLOP beside full", "time beside full", "memory, full", "memory, LoRA"),
    "precision": ("GPU, format", "step", "beside fp32", "MFU", "peak memory"),
})
CHINESE = in_words({
    "products": ("矩阵", "计算量", "fp32", "速率", "fp16，Tensor Core", "速率"),
    "attention": ("序列 [词元]", "注意力，前向", "占前向 FLOP", "占每步时间"),
    "gpt-work": (
        "一步 {tokens} 个词元需要 {step}，即每个词元 {token}。四块 V100 即使都达到 15.7 TFLOP/s 的 fp32 峰值，也需要 {ideal}，而不是 0.008 秒。"
        "而 {parameters} 个参数的权重、梯度和 AdamW 状态共 {states}，四块卡合计只有 {four}。"
    ),
    "gpt": ("方式", "每 GPU 峰值 / 可用", "结论", "每步", "MFU", "10M 词元"),
    "bert": ("方法", "训练参数", "FLOP（相对全参数）", "时间（相对全参数）", "每步", "显存峰值"),
    "lora": ("模型", "H100", "训练参数", "FLOP（相对全参数）", "时间（相对全参数）", "显存，全参数", "显存，LoRA"),
    "precision": ("GPU，格式", "每步", "相对 fp32", "MFU", "显存峰值"),
})
