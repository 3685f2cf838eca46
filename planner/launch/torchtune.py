"""torchtune: a configuration of its fine-tuning recipes."""

from __future__ import annotations

from typing import Any, Final

import yaml

from planner.launch.base import Draft, Plan, check_degrees, impossible, register

_LLAMA: Final = "torchtune.models.llama3.llama3_tokenizer"
_QWEN: Final = "torchtune.models.qwen2_5.qwen2_5_tokenizer"
MODELS: Final[dict[str, tuple[str, str, str, str, tuple[str, ...]]]] = {
    "meta-llama/Meta-Llama-3-8B": ("llama3", "llama3_8b", _LLAMA, "LLAMA3", ("original/tokenizer.model",)),
    "meta-llama/Llama-3.1-8B": ("llama3_1", "llama3_1_8b", _LLAMA, "LLAMA3", ("original/tokenizer.model",)),
    "meta-llama/Llama-3.1-70B": ("llama3_1", "llama3_1_70b", _LLAMA, "LLAMA3", ("original/tokenizer.model",)),
    "meta-llama/Llama-3.1-405B": ("llama3_1", "llama3_1_405b", _LLAMA, "LLAMA3", ("original/tokenizer.model",)),
    "meta-llama/Llama-3.2-1B": ("llama3_2", "llama3_2_1b", _LLAMA, "LLAMA3_2", ("original/tokenizer.model",)),
    "meta-llama/Llama-3.2-3B": ("llama3_2", "llama3_2_3b", _LLAMA, "LLAMA3_2", ("original/tokenizer.model",)),
    "mistralai/Mistral-7B-v0.1": ("mistral", "mistral_7b", "torchtune.models.mistral.mistral_tokenizer", "MISTRAL", ("tokenizer.model",)),
    "Qwen/Qwen2.5-0.5B": ("qwen2_5", "qwen2_5_0_5b", _QWEN, "QWEN2", ("vocab.json", "merges.txt")),
    "Qwen/Qwen2.5-1.5B": ("qwen2_5", "qwen2_5_1_5b_base", _QWEN, "QWEN2", ("vocab.json", "merges.txt")),
    "Qwen/Qwen2.5-3B": ("qwen2_5", "qwen2_5_3b", _QWEN, "QWEN2", ("vocab.json", "merges.txt")),
    "Qwen/Qwen2.5-7B": ("qwen2_5", "qwen2_5_7b_base", _QWEN, "QWEN2", ("vocab.json", "merges.txt")),
    "Qwen/Qwen2.5-14B": ("qwen2_5", "qwen2_5_14b_base", _QWEN, "QWEN2", ("vocab.json", "merges.txt")),
    "Qwen/Qwen2.5-32B": ("qwen2_5", "qwen2_5_32b_base", _QWEN, "QWEN2", ("vocab.json", "merges.txt")),
    "Qwen/Qwen2.5-72B": ("qwen2_5", "qwen2_5_72b_base", _QWEN, "QWEN2", ("vocab.json", "merges.txt")),
}
"""(module, builder, tokenizer, type of the checkpointer, tokenizer's files) of torchtune 0.6.1, by published model."""
MODULES: Final = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "o_proj": "output_proj"}
"""torchtune's names of attention's projections, by transformers' ones."""
_MLP: Final = {"gate_proj", "up_proj", "down_proj"}
OPTIMIZERS: Final[dict[str, dict[str, Any]]] = {
    "adamw": {"_component_": "torch.optim.AdamW"},
    "adamw-fused": {"_component_": "torch.optim.AdamW", "fused": True},
    "sgd": {"_component_": "torch.optim.SGD"},
    "adamw8bit": {"_component_": "bitsandbytes.optim.AdamW8bit"},
    "paged-adamw": {"_component_": "bitsandbytes.optim.PagedAdamW"},
    "paged-adamw8bit": {"_component_": "bitsandbytes.optim.PagedAdamW8bit"},
}
_OWN: Final = {"rank", "alpha", "dropout", "targets", "use_dora"}


@register("torchtune", label="torchtune YAML", position=85, reference="torchtune 0.6.1 recipes/configs, models/*/_model_builders.py")
def torchtune(plan: Plan) -> Draft:
    """`torchtune.yaml` for the recipe that its command names."""
    run, method, precision = plan.run, plan.run.method, plan.run.precision
    assert precision is not None
    known = MODELS.get(plan.model)
    if known is None:
        raise impossible("model", plan.name, "torchtune", f"Its builders are known here for {', '.join(MODELS)}.")
    if run.head not in (None, "causal-lm"):
        raise impossible("head", run.head, "torchtune", "It trains causal language models.")
    if run.task != "sft":
        raise impossible("task", run.task, "torchtune", "It is written for fine-tuning: use torchtitan or megatron.")
    if method.name not in ("full", "lora", "qlora", "dora"):
        raise impossible("method.name", method.name, "torchtune", "Use full, lora, qlora or dora.")
    if run.optimizer not in OPTIMIZERS:
        raise impossible("optimizer", run.optimizer, "torchtune", f"Use one of {', '.join(OPTIMIZERS)}.")
    if precision.weights not in ("bf16", "fp32", "nf4", "nf4-dq"):
        raise impossible("precision.weights", precision.weights, "torchtune", "Use bf16, fp32 or nf4.")
    if plan.machines > 1 and method.name != "full":
        raise impossible("hardware.gpus", plan.gpus, "torchtune's LoRA recipe on several machines", "Use one machine, or axolotl.")
    check_degrees(plan, "torchtune")
    module, builder, tokenizer, kind, files = known
    says = {"model", "head", "task", "micro", "accumulation", "seq-len", "steps", "epochs", "gpus", "optimizer", "weights"}
    name = f"lora_{builder}" if method.name != "full" else builder
    model: dict[str, Any] = {"_component_": f"torchtune.models.{module}.{name}"}
    if method.name != "full":
        model |= _lora(plan, says)
    else:
        says.add("method")
    where = f"/tmp/{plan.model.rpartition('/')[2]}"
    paths = ("path",) if len(files) == 1 else ("path", "merges_file")
    packed = run.data is None or run.data.packing in ("packed", "best-fit")
    several = plan.gpus > 1
    config: dict[str, Any] = {
        "output_dir": "./out",
        "tokenizer": {"_component_": tokenizer, **{key: f"{where}/{file}" for key, file in zip(paths, files, strict=True)}, "max_seq_len": run.batch.seq_len},
        "model": model,
        "checkpointer": {
            "_component_": "torchtune.training.FullModelHFCheckpointer", "checkpoint_dir": where, "checkpoint_files": ["model.safetensors"],
            "recipe_checkpoint": None, "output_dir": "${output_dir}", "model_type": kind,
        },
        "resume_from_checkpoint": False,
        "dataset": {"_component_": "torchtune.datasets.alpaca_dataset", "packed": packed},
        "seed": None,
        "shuffle": True,
        "batch_size": run.batch.micro,
        "gradient_accumulation_steps": run.batch.accumulation,
        "epochs": 1,
        "max_steps_per_epoch": plan.steps or 100,
        "optimizer": {**OPTIMIZERS[run.optimizer], "lr": 1e-4},
        "optimizer_in_bwd": False,
        "loss": {"_component_": "torchtune.modules.loss.CEWithChunkedOutputLoss"},
        "clip_grad_norm": 1.0,
        "compile": False,
        "device": "cuda",
        "dtype": "fp32" if precision.weights == "fp32" else "bf16",
        "enable_activation_checkpointing": run.activation_checkpointing == "full",
        "enable_activation_offloading": run.offload == "activations",
        "metric_logger": {"_component_": "torchtune.training.metric_logging.DiskLogger", "log_dir": "${output_dir}/logs"},
        "log_every_n_steps": 1,
        "log_peak_memory_stats": True,
        "profiler": {"_component_": "torchtune.training.setup_torch_profiler", "enabled": False},
    }  # fmt: skip
    if method.name != "full":
        del config["optimizer_in_bwd"]
        config |= {
            "save_adapter_weights_only": False,
            "lr_scheduler": {"_component_": "torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup", "num_warmup_steps": 100},
        }
    if several:
        config |= {"fsdp_cpu_offload": run.offload == "optimizer+params", "fsdp_reshard_after_forward": run.parallel.sharding != "zero2"}
    if (several and run.parallel.sharding in ("zero2", "zero3")) or not several:
        says.add("sharding")
    if run.activation_checkpointing != "selective" and run.checkpoints.every == 1 and not run.checkpoints.keep:
        says.add("checkpointing")
    if run.offload in ("activations", "optimizer+params") and (several or run.offload == "activations"):
        says.add("offload")
    if precision.compute == config["dtype"] and not precision.autocast:
        says.add("compute")
    if run.data is not None and run.data.packing in ("best-fit", "padded"):
        says.add("packing")
    if run.stack == "torchtune":
        says.add("stack")
    if run.attention in (None, "sdpa"):
        says.add("attention")
    recipe = ("lora_finetune" if method.name != "full" else "full_finetune") + ("_distributed" if several else "_single_device")
    start = f"tune run {recipe} --config torchtune.yaml"
    if several:
        nodes = f"--nnodes {plan.machines} --rdzv-backend c10d --rdzv-endpoint $MASTER_ADDR:29500 --rdzv-id plan " if plan.machines > 1 else ""
        start = f"tune run {nodes}--nproc-per-node {plan.per_machine} {recipe} --config torchtune.yaml"
    notes = (
        f"Download the weights first: tune download {plan.model} --output-dir {where}; list their files under checkpoint_files.",
        "The dataset (alpaca) and the learning rate (1e-4) are placeholders.",
    )
    return Draft({"torchtune.yaml": yaml.safe_dump(config, sort_keys=False)}, frozenset(says), start, notes)


def _lora(plan: Plan, says: set[str]) -> dict[str, Any]:
    """Arguments of torchtune's LoRA builders. Raises `PlanError` for layers that they cannot adapt."""
    method, precision = plan.run.method, plan.run.precision
    assert precision is not None
    given = set(method.model_dump(exclude_none=True)) - {"name", "adapter_dtype"}
    targets = list(MODULES) + sorted(_MLP) if method.targets == "all-linear" else list(method.targets or ("q_proj", "v_proj"))
    if isinstance(method.targets, str) and method.targets != "all-linear":
        raise impossible("method.targets", method.targets, "torchtune", "Name the layers (q_proj, v_proj, …) or write all-linear.")
    unknown = [name for name in targets if name not in MODULES and name not in _MLP]
    if unknown:
        raise impossible("method.targets", ", ".join(unknown), "torchtune", f"Use {', '.join(MODULES)} and the MLP's three.")
    mlp = _MLP & set(targets)
    if mlp and mlp != _MLP:
        raise impossible("method.targets", ", ".join(sorted(mlp)), "torchtune", "It adapts all three layers of the MLP or none.")
    if given <= _OWN and method.targets is not None:
        says.add("method")
    if method.adapter_dtype == precision.weights or (method.adapter_dtype is None and precision.weights == "fp32"):
        says.add("adapter-dtype")
    arguments: dict[str, Any] = {
        "lora_attn_modules": [MODULES[name] for name in targets if name in MODULES], "apply_lora_to_mlp": bool(mlp), "apply_lora_to_output": False,
        "lora_rank": method.rank or 8, "lora_alpha": method.alpha or 8, "lora_dropout": method.dropout or 0.0,
    }  # fmt: skip
    if method.name == "dora" or method.use_dora:
        arguments["use_dora"] = True
    if precision.weights in ("nf4", "nf4-dq"):
        arguments["quantize_base"] = True
        if precision.weights == "nf4-dq":  # torchao's NF4 quantizes the scales as well
            says.add("quantized")
    return arguments
