"""Backward attention and memory-bound kernels from published operator benchmarks; used by `planner.device.fit` only."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from planner.catalog import find_accelerator
from planner.device.attention import BACKWARD_FLOPS, Attention, AttentionCurve
from planner.device.solver import soft_l1_fit

TOKENS: Final = 16384
"""Tokens of one call in the FlashAttention benchmark: batch = TOKENS / sequence length."""

# In-step attention rate of a Llama-3.1-8B layer (1 x 8192 tokens, 32 heads, 8 key-value heads of 128, causal), model FLOP: three times the forward.
IN_STEP: Final = {"h200_sxm": 447e12, "b200_sxm": 834e12}
IN_STEP_SHAPE: Final = {"batch": 1, "heads": 32, "kv_heads": 8, "length": 8192, "head_dim": 128}
SAME_BACKWARD: Final = {"h100_sxm": "h200_sxm", "b300_sxm": "b200_sxm", "gb200": "b200_sxm", "gb300": "b200_sxm"}
"""Parts whose forward was measured and whose backward ratio is that of a sister part."""

PLAIN: Final = {"bandwidth": 0.8, "blend": 1.5, "launch_s": 5e-6}
"""Memory term and launch of a kernel that reads Q, K, V and writes O once: the bandwidth of elementwise kernels."""

LIGER_BANDWIDTH: Final = {"NVIDIA A100-SXM4-80GB": "A100 SXM4 80GB", "NVIDIA H100 80GB HBM3": "H100 SXM 80GB"}
# kind: (kernel, provider, mode, passes over one activation tensor that the kernels of this provider make)
STREAM_ROWS: Final = {
    "elementwise": ("rope", "liger", "forward", 2.0),
    "reduction": ("rms_norm", "liger", "forward", 2.0),
    "fused_norm": ("layer_norm", "liger", "forward", 2.0),
    "norm": ("layer_norm", "huggingface", "forward", 2.0),
    "norm_backward": ("layer_norm", "huggingface", "backward", 3.0),
    "softmax": ("cross_entropy", "huggingface", "forward", 2.0),
    "eager": ("rms_norm", "huggingface", "forward", 18.0),
    "strided": ("rope", "huggingface", "forward", 10.0),
}


def _rates(path: Path) -> dict[tuple[str, str, str], list[dict[str, float]]]:
    groups: dict[tuple[str, str, str], list[dict[str, float]]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            if not row["tflops"]:
                continue
            gpu = {"A100-SXM4-80GB": "a100_sxm", "H100-SXM-80GB": "h100_sxm"}.get(row["gpu"])
            if gpu is None:
                continue
            names = ("head_dim", "seqlen", "causal", "batch", "heads")
            shape = {name: float(row[name]) for name in names}
            causal = 0.5 if shape["causal"] else 1.0
            forward = 4.0 * shape["seqlen"] ** 2 * shape["head_dim"] * shape["heads"] * shape["batch"] * causal
            factor = 1.0 + BACKWARD_FLOPS if row["pass"] == "fwd+bwd" else 1.0
            groups[gpu, row["impl"], row["pass"]].append(
                shape | {"seconds": factor * forward / (float(row["tflops"]) * 1e12)}
            )
    return groups


def _times(
    curve: AttentionCurve, part: str, rows: list[dict[str, float]], both: bool
) -> np.ndarray[Any, np.dtype[np.float64]]:
    device = find_accelerator(part)
    bound = Attention(curve, device.peak_flops["bf16"], device.memory_bandwidth, device.sm_count or 1)
    out = []
    for row in rows:
        shape = (
            row["batch"],
            row["heads"],
            row["heads"],
            row["seqlen"],
            row["seqlen"],
            row["head_dim"],
            bool(row["causal"]),
        )
        out.append(bound.seconds(*shape, False, None) + (bound.seconds(*shape, True, None) if both else 0.0))
    return np.array(out)


def _refit(
    curve: AttentionCurve, part: str, rows: list[dict[str, float]], free: tuple[str, ...], both: bool
) -> AttentionCurve:
    """The curve with the fields `free` fitted to published rates, all else kept."""
    measured = np.log([row["seconds"] for row in rows])

    def with_values(x: np.ndarray[Any, np.dtype[np.float64]]) -> AttentionCurve:
        return curve.model_copy(update={name: float(value) for name, value in zip(free, np.exp(x), strict=True)})

    start = np.log([getattr(curve, name) for name in free])
    low, high = start - 1.5, np.minimum(start + 1.5, [np.log(1.05) if "efficiency" in name else 9.0 for name in free])
    x = soft_l1_fit(lambda x: np.log(_times(with_values(x), part, rows, both)) - measured, start, low, high, prior=0.0)
    return with_values(x)


def _errors(curve: AttentionCurve, part: str, rows: list[dict[str, float]], both: bool) -> dict[str, float]:
    error = _times(curve, part, rows, both) / np.array([row["seconds"] for row in rows]) - 1.0
    size = np.abs(error)
    figures = {
        "median": np.median(size),
        "p90": np.quantile(size, 0.9),
        "bias": np.median(error),
        "n": float(size.size),
    }
    return {name: float(f"{figure:.4g}") for name, figure in figures.items()}


def _in_step_backward(curve: AttentionCurve, part: str, rate: float) -> float:
    """Backward efficiency at which forward and backward together reach the in-step rate (bisection: time falls with it)."""
    device, s = find_accelerator(part), IN_STEP_SHAPE
    model_flops = 3.0 * 2.0 * s["length"] ** 2 * s["head_dim"] * s["heads"] * s["batch"]
    shape = (s["batch"], s["heads"], s["kv_heads"], s["length"], s["length"], s["head_dim"], True)
    low, high = 0.02, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        trial = curve.model_copy(update={"backward_efficiency": middle})
        bound = Attention(trial, device.peak_flops["bf16"], device.memory_bandwidth, device.sm_count or 1)
        slow = bound.seconds(*shape, False, None) + bound.seconds(*shape, True, None) > model_flops / rate
        low, high = (middle, high) if slow else (low, middle)
    return (low + high) / 2


def training_kernel(table: AttentionCurve) -> AttentionCurve:
    """The training kernel behind a measured prefill kernel: the same products, without the traffic of the paged key-value cache.

    The prefill tables time serving kernels, whose memory term is far above reading and writing Q, K, V and O once. With the memory term of
    a plain kernel, the compute part fitted to the tables reproduces the published FlashAttention-3 forward rates (see the fit errors).
    """
    return table.model_copy(update=PLAIN | {"launch_s": max(PLAIN["launch_s"], min(table.launch_s, 1e-5))})


def published_attention(
    evidence: Path, curves: dict[str, AttentionCurve], parts: dict[str, str]
) -> tuple[dict[str, tuple[dict[str, AttentionCurve], str]], dict[str, dict[str, dict[str, float]]]]:
    """Named kernels of every measured device and the one that training uses, and the errors against published rates.

    "prefill" is the table's kernel. FlashAttention-2 on Hopper is fitted to the project's H100 charts (forward; then forward and backward
    together), on the A100 to its chart of both together with the backward over forward ratio of the H100; "efficient" is the xformers
    kernel of the same chart. FlashAttention-3 and Blackwell backward follow from in-step rates; others take the ratio of FlashAttention-2.
    """
    rates = _rates(evidence / "attention_kernels.csv")
    plain = {key: training_kernel(curve) for key, curve in curves.items()}
    errors: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    out: dict[str, tuple[dict[str, AttentionCurve], str]] = {}
    hopper = parts["h100_sxm"]
    forward, both = rates["h100_sxm", "flash2", "fwd"], rates["h100_sxm", "flash2", "fwd+bwd"]
    flash2 = _refit(plain["h100_sxm"], hopper, forward, ("efficiency", "head_exponent", "tile_s"), False)
    flash2 = _refit(flash2, hopper, both, ("backward_efficiency",), True)
    ratio = flash2.backward_efficiency / flash2.efficiency
    errors["h100_sxm"]["attention/flash2/forward"] = _errors(flash2, hopper, forward, False)
    errors["h100_sxm"]["attention/flash2/forward_and_backward"] = _errors(flash2, hopper, both, True)
    errors["h100_sxm"]["attention/flash3/forward_never_fitted"] = _errors(
        plain["h100_sxm"], hopper, rates["h100_sxm", "flash3", "fwd"], False
    )
    in_step = {
        key: _in_step_backward(plain[key], parts[key], rate) / plain[key].efficiency for key, rate in IN_STEP.items()
    }
    for key, curve in plain.items():
        backward = in_step.get(key, in_step.get(SAME_BACKWARD.get(key, ""), ratio))
        curve = curve.model_copy(update={"backward_efficiency": min(1.0, curve.efficiency * backward)})
        table = curves[key].model_copy(update={"backward_efficiency": min(1.0, curves[key].efficiency * backward)})
        if key in ("h100_sxm", "h200_sxm"):
            out[key] = {"flash2": flash2, "flash3": curve, "prefill": table}, "flash2"
        elif key == "a100_sxm":
            rows = rates["a100_sxm", "flash2", "fwd+bwd"]
            curve = _refit_scale(curve, ratio, parts[key], rows)
            errors[key]["attention/flash2/forward_and_backward"] = _errors(curve, parts[key], rows, True)
            older = rates["a100_sxm", "xformers", "fwd+bwd"]
            efficient = _refit_scale(curve, ratio, parts[key], older)
            errors[key]["attention/efficient/forward_and_backward"] = _errors(efficient, parts[key], older, True)
            out[key] = {"flash2": curve, "efficient": efficient, "prefill": table}, "flash2"
        else:
            name = "flash2" if key in ("l40s", "rtx_pro_6000_server") else "fused"
            out[key] = {name: curve, "prefill": table}, name
    return out, dict(errors)


def _refit_scale(curve: AttentionCurve, ratio: float, part: str, rows: list[dict[str, float]]) -> AttentionCurve:
    """The curve with one efficiency fitted, the backward standing in a fixed ratio to it."""
    for _ in range(3):
        curve = curve.model_copy(update={"backward_efficiency": curve.efficiency * ratio})
        bias = float(np.median(np.log(_times(curve, part, rows, True)) - np.log([row["seconds"] for row in rows])))
        curve = curve.model_copy(update={"efficiency": curve.efficiency * float(np.exp(bias))})
    return curve.model_copy(update={"backward_efficiency": curve.efficiency * ratio})


def _tensor_bytes(kernel: str, config: dict[str, Any], x_name: str, x: float) -> float:
    """Bytes of one activation tensor of a benchmark row, at the size of its own number format (2 bytes for eager bf16 chains)."""
    if kernel == "rms_norm":
        return 2.0 * float(config["M"]) * x
    if kernel == "layer_norm":
        return 4.0 * float(config["M"]) * x
    if kernel == "cross_entropy":
        return 4.0 * float(config["B"]) * float(config["T"]) * x
    both = 1.0 + float(config["num_kv_heads"]) / float(config["num_q_heads"])
    return 2.0 * both * (x * float(config["hidden_size"]) if x_name == "T" else float(config["seq_len"]) * x)


def fit_streams(evidence: Path) -> dict[str, dict[str, float]]:
    """Fraction of the datasheet bandwidth by kind of kernel and device: slope of time over bytes from the median size to the largest.

    The number of passes is counted from the operators that each implementation runs: an eager RMS norm casts, squares, averages, scales,
    casts and multiplies (36 bytes an element against 2 of the tensor), an eager rotary embedding makes ten passes.
    """
    points: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    with (evidence / "op_kernels_liger.csv").open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            part = LIGER_BANDWIDTH.get(row["gpu"])
            if part is None or row["metric"] != "speed":
                continue
            for kind, (kernel, provider, mode, passes) in STREAM_ROWS.items():
                if (row["kernel"], row["provider"], row["mode"]) == (kernel, provider, mode) and (
                    kernel != "rope" or row["x_name"] == "T"
                ):
                    size = _tensor_bytes(kernel, json.loads(row["config"]), row["x_name"], float(row["x_value"]))
                    points[part, kind].append((passes * size, float(row["median"]) / 1e3))
    out: dict[str, dict[str, float]] = defaultdict(dict)
    for (part, kind), rows in points.items():
        rows.sort()
        (small, fast), (large, slow) = rows[len(rows) // 2], rows[-1]
        rate = (large - small) / (slow - fast)
        out[part][kind] = rate / find_accelerator(part).memory_bandwidth
    return dict(out)
