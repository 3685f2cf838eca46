"""Fewer numbers per parameter: Adafactor's rows and columns, Adam-mini's one second moment per block."""

from __future__ import annotations

from planner.workload.graph import BYTES, Parameter
from planner.workload.optimizers.base import Step, Task, register


@register(
    "adafactor",
    "Adafactor",
    "Second moments as one row and one column per matrix; no first moment.",
    "Shazeer & Stern 2018, arXiv:1804.04235, algorithm 4",
)
def _adafactor(task: Task) -> Step:
    state = count = widest = 0.0
    for p, times, _ in task.trained:
        state += 4.0 * times * (p.numel / p.shape[-1] + p.numel / p.shape[-2] if len(p.shape) > 1 else p.numel)
        count += p.numel * times
        # one parameter at a time: grad² and update in fp32, plus fp32 copies of gradient and weight when they are stored in fewer bits
        widest = max(widest, p.numel * (8.0 if p.dtype == "fp32" or task.master else 16.0))
    return Step({"factored": state, "rms": 4.0 * task.tensors}, widest, 4.0 * 12 * count, 12 * task.tensors)


_HEADS = ("k_proj", "q_proj", "wq", "wk", "query", "key")
_ROWS = (
    *("embed", "embd", "wte", "lm_head", "output", "final_layer", "v_proj", "wv", "value"),
    *("o_proj", "wo", "attn.proj", "feed_forward", "linear", "mlp"),
)
"""Name parts by which the authors' implementation tells queries and keys (a number per head), and everything that has one per row."""


def mini_blocks(p: Parameter, hidden: int, heads: int) -> float:
    """How many second moments Adam-mini keeps of one parameter."""
    name = p.name.lower()
    if "bias" in name:
        return p.numel
    if any(part in name for part in _HEADS):
        return p.numel / (hidden * hidden // heads)
    if any(part in name for part in _ROWS):
        return p.shape[0]
    return 1.0


@register(
    "adam-mini",
    "Adam-mini",
    "One second moment per head of queries and keys, per row of the other matrices, per tensor of norms.",
    "Zhang et al. 2024, arXiv:2406.16793; adam_mini 1.1",
)
def _adam_mini(task: Task) -> Step:
    first = second = 0.0
    for p, times, _ in task.trained:
        element = BYTES[task.dtype(p)]
        first += p.numel * element * times
        second += mini_blocks(p, task.hidden, task.heads) * element * times
    # per tensor: grad², its mean, decay, lerp, update, scaled, subtracted; m · step, and its negative
    return Step({"m": first, "vmean": second}, 2 * task.widest, 17 * task.bytes, 14 * task.tensors)
