"""The engine's answer to a recorded oracle case, in the oracle's own terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.estimate import Estimate
from planner.estimate.engine import estimate
from planner.run import parse_run
from planner.workload.precision import QUANTIZED

PRECISIONS: dict[str, Any] = {
    "fp32": "fp32",
    "bf16": "bf16",
    "bf16-mixed": "bf16-mixed",
    "fp16-mixed": "fp16-mixed",
    "bf16-autocast": {"weights": "bf16", "compute": "bf16", "autocast": True},
    **{
        base + how: {"weights": base, "compute": "bf16", **more}
        for base in QUANTIZED
        for how, more in (("", {}), ("-autocast", {"autocast": True}), ("-wide", {"unquantized": "fp32", "autocast": True}))
    },
}
LENGTHS = ("target_len", "audio_seconds", "images", "image_size")
"""Sizes of a case that are fields of the run's batch by the same name."""


def engine_run(config: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The run file of a case: one H100 (whose usable memory plays no part), so that every precision is allowed."""
    method = dict(arguments.get("method") or {"name": "full"})
    attention = arguments.get("attention", "eager" if config.get("model_type") in ("gemma2", "gpt_oss", "deberta", "deberta-v2", "speech_to_text") else "sdpa")
    run: dict[str, Any] = {
        "model": dict(config),
        "method": method,
        "precision": PRECISIONS[arguments.get("precision", "bf16")],
        "hardware": {"gpu": "H100 SXM 80GB"},
        "optimizer": arguments.get("optimizer", "adamw"),
        "attention": attention,
        "activation_checkpointing": "full" if arguments.get("checkpointing") else "none",
        "batch": {
            "micro": arguments.get("batch", 1),
            "seq_len": arguments.get("seq"),
            "accumulation": arguments.get("gradient_accumulation", 1),
            **{name: arguments[name] for name in LENGTHS if name in arguments},
        },
    }
    if arguments.get("head") is not None:
        run["head"] = arguments["head"]
    if options := {key: arguments[key] for key in ("every", "keep") if key in arguments}:
        run["activation_checkpointing"] = options
    return run


def engine_estimate(config: Mapping[str, Any], arguments: Mapping[str, Any]) -> Estimate:
    return estimate(parse_run(engine_run(config, arguments)))


def tensor_peak(e: Estimate) -> float:
    """Peak of what MemTracker can see: tensors without the cuBLAS workspace and without scratch inside kernels [bytes]."""
    return max(point.allocated - point.parts.get("workspace", 0.0) for point in e.memory_curve)


def counted_flops(e: Estimate, config: Mapping[str, Any], arguments: Mapping[str, Any]) -> float:
    """What FlopCounterMode sees of a step: forward and backward without the optimizer, and nothing inside a fused LSTM (two layers, two
    directions, forward and twice that backward)."""
    seen = sum(t.value for t in e.terms if t.name.startswith("flops/") and not t.name.startswith("flops/optimizer"))
    method = arguments.get("method") or {}
    if method.get("encoder") != "lstm":
        return seen
    hidden, tokens = method["encoder_hidden"], method["virtual_tokens"]
    width = config.get("hidden_size") or config["n_embd"]
    return seen - 3 * 2 * sum(2 * tokens * 4 * hidden * (inner + hidden) for inner in (width, 2 * hidden))


def comparable(case: dict[str, Any]) -> bool:
    """Whether the engine covers the case: its method, and settings that a run can express."""
    arguments, method = case["arguments"], case["arguments"].get("method") or {}
    if "dora" in method or "task_type" in method or arguments.get("padding"):
        return False
    # SigLIP's tower alone has no prefix in its parameter names, which the engine's names carry: an expression differs
    if case["config"] == "siglip_vision_model" and method.get("trainable") and "^norm" in str(method["trainable"]):
        return False
    # `last` also trains a classification head, which the oracle leaves frozen
    return not ("last" in method and arguments.get("head") == "sequence-classification")
