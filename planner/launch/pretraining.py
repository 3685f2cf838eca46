"""Pretraining software with its own parallelism: torchtitan's TOML and Megatron-LM's flags."""

from __future__ import annotations

import shlex
from typing import Any, Final

from planner.launch.base import Draft, Plan, impossible, register
from planner.launch.cluster import torchrun_command

_TITAN: Final = {
    "meta-llama/Llama-3.1-8B": ("llama3", "8B"), "meta-llama/Llama-3.1-70B": ("llama3", "70B"), "meta-llama/Llama-3.1-405B": ("llama3", "405B"),
    "Qwen/Qwen3-0.6B": ("qwen3", "0.6B"), "Qwen/Qwen3-1.7B": ("qwen3", "1.7B"), "Qwen/Qwen3-4B": ("qwen3", "4B"), "Qwen/Qwen3-8B": ("qwen3", "8B"),
    "Qwen/Qwen3-14B": ("qwen3", "14B"), "Qwen/Qwen3-32B": ("qwen3", "32B"), "Qwen/Qwen3-30B-A3B": ("qwen3", "30B-A3B"),
    "Qwen/Qwen3-235B-A22B": ("qwen3", "235B-A22B"),
}  # fmt: skip
"""torchtitan 0.2's (model, flavor) of published models."""
_TITAN_SCHEDULES: Final = {
    "gpipe": "GPipe",
    "1f1b": "1F1B",
    "interleaved": "Interleaved1F1B",
    "zero-bubble": "InterleavedZeroBubble",
    "zbv": "ZBVZeroBubble",
}
_SAID: Final = frozenset(
    ("model", "head", "method", "optimizer", "gpus", "tp", "pp", "cp", "ep", "micro", "accumulation", "seq-len", "steps", "epochs")
)
_DTYPES: Final = {"bf16": "bfloat16", "fp32": "float32"}


def _only_full(plan: Plan, form: str) -> None:
    if plan.run.method.name != "full":
        raise impossible(
            "method.name", plan.run.method.name, form, "It trains all weights; use hf, axolotl or llamafactory."
        )
    if plan.run.head not in (None, "causal-lm"):
        raise impossible("head", plan.run.head, form, "It trains causal language models.")


@register(
    "torchtitan",
    label="torchtitan TOML",
    position=60,
    reference="torchtitan 0.2.0 config/job_config.py (0.3 reads Python configurations)",
)
def torchtitan(plan: Plan) -> Draft:
    """`train.toml` of torchtitan 0.2."""
    _only_full(plan, "torchtitan")
    run, p, precision = plan.run, plan.run.parallel, plan.run.precision
    assert precision is not None
    known = _TITAN.get(plan.model)
    if known is None:
        raise impossible("model", plan.name, "torchtitan", f"Its flavors are known here for {', '.join(_TITAN)}.")
    if run.optimizer not in ("adamw", "adamw-fused"):
        raise impossible("optimizer", run.optimizer, "torchtitan", "Use adamw.")
    if precision.weights not in _DTYPES:
        raise impossible("precision.weights", precision.weights, "torchtitan", "Use fp32 or bf16.")
    says = {*_SAID, "weights", "task"}
    shard = run.dp if p.sharding in ("zero2", "zero3") else 1
    tables: dict[str, dict[str, Any]] = {
        "job": {"dump_folder": "./out", "description": plan.name},
        "metrics": {"log_freq": 10},
        "model": {
            "name": known[0],
            "flavor": known[1],
            "hf_assets_path": f"./assets/hf/{plan.model.rpartition('/')[2]}",
        },
        "optimizer": {
            "name": "AdamW",
            "lr": 3e-4,
            "implementation": "fused"
            if run.optimizer == "adamw-fused" or run.stack.startswith("torchtitan")
            else "foreach",
        },
        "training": {
            "local_batch_size": run.batch.micro * (run.batch.accumulation if p.pp > 1 else 1),
            "global_batch_size": run.batch.micro * run.batch.accumulation * run.dp,
            "seq_len": run.batch.seq_len,
            "steps": plan.steps or 100,
            "dataset": "c4",
            "dtype": _DTYPES[precision.weights],
            "mixed_precision_param": "bfloat16" if precision.compute in ("bf16", "fp8") else "float32",
            "enable_cpu_offload": run.offload == "optimizer+params",
        },
        "parallelism": {
            "data_parallel_shard_degree": shard,
            "data_parallel_replicate_degree": 1 if shard > 1 else run.dp,
            "fsdp_reshard_after_forward": {"zero3": "always", "zero2": "never"}.get(p.sharding or "", "default"),
            "tensor_parallel_degree": p.tp,
            "pipeline_parallel_degree": p.pp,
            "context_parallel_degree": p.cp,
            "expert_parallel_degree": p.ep,
        },
        "checkpoint": {"enable": run.task == "sft", "initial_load_in_hf": run.task == "sft"},
        "activation_checkpoint": {"mode": run.activation_checkpointing, "selective_ac_option": "op"},
        "compile": {"enable": run.stack in ("torchtitan", "torchtitan-2024")},
    }
    if run.checkpoints.every == 1 and not run.checkpoints.keep:
        says.add("checkpointing")
    if p.sharding in (None, "none", "ddp", "zero2", "zero3"):
        says.add("sharding")
    if p.tp == 1 or p.sequence_parallel:
        says.add("sequence-parallel")
    if run.offload == "optimizer+params":
        says.add("offload")
    if precision.compute in ("bf16", "fp32"):
        says.add("compute")
    if p.pp > 1:
        tables["parallelism"]["pipeline_parallel_microbatch_size"] = run.batch.micro
        if schedule := _TITAN_SCHEDULES.get(p.schedule or "1f1b"):
            tables["parallelism"]["pipeline_parallel_schedule"] = schedule
            says.add("schedule")
    if precision.compute == "fp8" and precision.recipe in (None, "current", "row"):
        tables["model"]["converters"] = ["quantize.linear.float8"]
        tables["quantize.linear.float8"] = {"recipe_name": "rowwise" if precision.recipe == "row" else "tensorwise"}
        says.add("scaled")
    if run.stack.startswith("torchtitan"):
        says.add("stack")
    text = "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )
    return Draft(
        {"train.toml": text}, frozenset(says), torchrun_command(plan, "-m torchtitan.train --job.config_file train.toml"),
        ("Written for torchtitan 0.2; the dataset (c4) and the learning rate (3e-4) are placeholders.",),
    )  # fmt: skip


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(char if char.isprintable() and char not in '"\\' else " " for char in value) + '"'
    return repr(value)


@register(
    "megatron",
    label="Megatron-LM flags",
    position=70,
    reference="Megatron-LM, flags of pretrain_gpt.py (not checked against a release)",
)
def megatron(plan: Plan) -> Draft:
    """`megatron.args`: flags of pretrain_gpt.py, a line each."""
    _only_full(plan, "Megatron-LM")
    run, p, precision, c = plan.run, plan.run.parallel, plan.run.precision, plan.config
    assert precision is not None
    if c.get("model_type") not in ("llama", "mistral", "qwen2", "qwen3"):
        raise impossible(
            "model", plan.name, "Megatron-LM flags", "Flags are written for llama, mistral, qwen2 and qwen3 models."
        )
    if run.optimizer not in ("adamw", "adamw-fused"):
        raise impossible("optimizer", run.optimizer, "Megatron-LM flags", "Use adamw.")
    if precision.compute not in ("bf16", "fp16", "fp8", "fp32"):
        raise impossible("precision.compute", precision.compute, "Megatron-LM flags", "Use bf16, fp16, fp8 or fp32.")
    says = {*_SAID, "edited-model", "master-weights"}
    heads, kv = c["num_attention_heads"], c.get("num_key_value_heads") or c["num_attention_heads"]
    flags: dict[str, object] = {
        "num-layers": c["num_hidden_layers"], "hidden-size": c["hidden_size"], "ffn-hidden-size": c["intermediate_size"], "num-attention-heads": heads,
        "kv-channels": c.get("head_dim") or c["hidden_size"] // heads, "swiglu": True, "normalization": "RMSNorm", "position-embedding-type": "rope",
        "rotary-base": int(c.get("rope_theta") or (c.get("rope_parameters") or {}).get("rope_theta") or 10000), "disable-bias-linear": True,
        "norm-epsilon": c.get("rms_norm_eps", 1e-6), "vocab-size": c["vocab_size"],
        "max-position-embeddings": max(c.get("max_position_embeddings") or 0, run.batch.seq_len or 0),
        "attention-dropout": 0.0, "hidden-dropout": 0.0, "seq-length": run.batch.seq_len, "micro-batch-size": run.batch.micro,
        "global-batch-size": run.batch.micro * run.batch.accumulation * run.dp, "train-iters": plan.steps or 100, "lr": 3e-4, "clip-grad": 1.0,
        "optimizer": "adam", "tensor-model-parallel-size": p.tp, "pipeline-model-parallel-size": p.pp, "context-parallel-size": p.cp,
        "expert-model-parallel-size": p.ep, "use-mcore-models": True, "transformer-impl": "transformer_engine", "mock-data": True,
        "tokenizer-type": "NullTokenizer",
    }  # fmt: skip
    if kv != heads:
        flags |= {"group-query-attention": True, "num-query-groups": kv}
    if not c.get("tie_word_embeddings"):
        flags["untie-embeddings-and-output-weights"] = True
    if c.get("model_type") == "qwen2":
        flags["add-qkv-bias"] = True
    if c.get("model_type") == "qwen3":
        flags["qk-layernorm"] = True
    if p.sequence_parallel:
        flags["sequence-parallel"] = True
        says.add("sequence-parallel")
    if p.virtual_pp > 1 and not c["num_hidden_layers"] % (p.pp * p.virtual_pp):
        flags["num-layers-per-virtual-pipeline-stage"] = c["num_hidden_layers"] // (p.pp * p.virtual_pp)
        says.add("virtual-pp")
    if p.schedule == ("interleaved" if p.virtual_pp > 1 else "1f1b"):
        says.add("schedule")
    if p.sharding == "zero1":
        flags["use-distributed-optimizer"] = True
    if p.sharding in (None, "none", "ddp", "zero1"):
        says.add("sharding")
    if precision.compute in ("bf16", "fp16"):
        flags[precision.compute] = True
        says.add("compute")
    elif precision.compute == "fp8":
        flags |= {"bf16": True, "fp8-format": "hybrid"}
        if precision.recipe in (None, "delayed", "current"):
            flags["fp8-recipe"] = "tensorwise" if precision.recipe == "current" else "delayed"
            says.add("scaled")
    else:
        says.add("compute")
    if precision.weights == (precision.compute if precision.compute != "fp8" else "bf16"):
        says.add("weights")
    if run.activation_checkpointing == "full" and run.checkpoints.every == 1 and not run.checkpoints.keep:
        flags |= {"recompute-granularity": "full", "recompute-method": "uniform", "recompute-num-layers": 1}
        says.add("checkpointing")
    elif run.activation_checkpointing == "selective":
        flags["recompute-granularity"] = "selective"
        says.add("checkpointing")
    if run.attention == "flash":
        flags["attention-backend"] = "flash"
        says.add("attention")
    if run.offload == "optimizer":
        flags |= {"optimizer-cpu-offload": True, "use-precision-aware-optimizer": True}
        says.add("offload")
    if run.stack in ("megatron", "nemo"):
        says.add("stack")
    if run.task == "pretrain":
        says.add("task")
    text = "".join(
        f"--{key}\n" if value is True else f"--{key} {shlex.quote(str(value))}\n" for key, value in flags.items()
    )
    return Draft(
        {"megatron.args": text}, frozenset(says), torchrun_command(plan, "pretrain_gpt.py $(grep -v '^#' megatron.args)"),
        ("The flags were not checked against Megatron-LM itself. "
            "Data are Megatron's mock data: replace --mock-data and the tokenizer. The learning rate (3e-4) is a placeholder.",),
    )  # fmt: skip
