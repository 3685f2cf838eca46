"""Fine-tuning frameworks that read one YAML file: Axolotl and LLaMA-Factory."""

from __future__ import annotations

from typing import Any, Final

import yaml

from planner.launch.base import Draft, Plan, check_degrees, impossible, register
from planner.launch.cluster import torchrun_command
from planner.launch.trainer import ATTENTION, OPTIMIZERS, mixed_precision

_SAID: Final = frozenset(
    ("model", "head", "task", "micro", "accumulation", "seq-len", "steps", "epochs", "attention", "gpus", "optimizer")
)
_LORA: Final = {"rank", "alpha", "dropout", "targets", "use_dora", "use_rslora", "modules_to_save"}


def _common(plan: Plan, form: str) -> set[str]:
    """Aspects that both say. Raises `PlanError` for what would train something else than planned."""
    run = plan.run
    if run.head not in (None, "causal-lm") or plan.config.get("is_encoder_decoder"):
        raise impossible("head", run.head, form, "It trains causal language models.")
    if not plan.model:
        raise impossible("model", plan.name, form, "Name a published model.")
    if run.task != "sft":
        raise impossible("task", run.task, form, "It is written for fine-tuning: use hf, torchtitan or megatron.")
    if run.method.name not in ("full", "lora", "qlora", "dora", "rslora"):
        raise impossible("method.name", run.method.name, form, "Use full, lora, qlora, dora or rslora.")
    if run.optimizer not in OPTIMIZERS:
        raise impossible("optimizer", run.optimizer, form, f"Use one of {', '.join(OPTIMIZERS)}.")
    check_degrees(plan, form)
    says = set(_SAID)
    given = set(run.method.model_dump(exclude_none=True)) - {"name", "adapter_dtype"}
    if given <= _LORA:
        says.add("method")
    if run.method.adapter_dtype in (None, "fp32"):
        says.add("adapter-dtype")
    if run.activation_checkpointing != "selective" and run.checkpoints.every == 1 and not run.checkpoints.keep:
        says.add("checkpointing")
    if run.parallel.sharding in (None, "none", "ddp"):
        says.add("sharding")
    return says


def _targets(plan: Plan) -> list[str] | str | None:
    targets = plan.run.method.targets
    return list(targets) if isinstance(targets, tuple) else targets


@register("axolotl", label="Axolotl YAML", position=80, reference="axolotl 0.19 utils/schemas")
def axolotl(plan: Plan) -> Draft:
    """`axolotl.yaml`."""
    says = _common(plan, "Axolotl")
    run, method, precision = plan.run, plan.run.method, plan.run.precision
    assert precision is not None
    config: dict[str, Any] = {
        "base_model": plan.model,
        "datasets": [{"path": "tatsu-lab/alpaca", "type": "alpaca"}],
        "output_dir": "./out",
        "sequence_len": run.batch.seq_len,
        "sample_packing": run.data is None or run.data.packing == "packed",
        "pad_to_sequence_len": run.data is None or run.data.packing == "packed",
        "micro_batch_size": run.batch.micro,
        "gradient_accumulation_steps": run.batch.accumulation,
        "max_steps": plan.steps or 100,
        "optimizer": OPTIMIZERS[run.optimizer],
        "learning_rate": 1e-4,
        "lr_scheduler": "cosine",
        "gradient_checkpointing": run.activation_checkpointing == "full",
        "attn_implementation": ATTENTION[run.attention or "sdpa"],
        "logging_steps": 1,
    }
    if run.data is not None and run.data.packing == "padded":
        says.add("packing")
    if method.name != "full":
        targets = _targets(plan)
        config["adapter"] = "qlora" if precision.weights in ("nf4", "nf4-dq") else "lora"
        config |= {"lora_r": method.rank or 8, "lora_alpha": method.alpha or 8, "lora_dropout": method.dropout or 0.0}
        if targets == "all-linear" or targets is None:
            config["lora_target_linear"] = True
            says -= {"method"} if targets is None else set()
        else:
            config["lora_target_modules"] = targets
        if method.name == "dora" or method.use_dora:
            config["peft_use_dora"] = True
        if method.name == "rslora" or method.use_rslora:
            config["peft_use_rslora"] = True
        if method.modules_to_save:
            config["lora_modules_to_save"] = list(method.modules_to_save)
    if precision.weights in ("nf4", "nf4-dq", "int8"):
        config["load_in_8bit" if precision.weights == "int8" else "load_in_4bit"] = True
        if precision.weights == "nf4":
            config["bnb_config_kwargs"] = {"bnb_4bit_use_double_quant": False}
        says.add("quantized")
    if mixed := mixed_precision(plan):
        config |= mixed
        says.add("compute")
    if run.parallel.sharding in ("zero2", "zero3"):
        config["fsdp_version"] = 2
        config["fsdp_config"] = {
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "state_dict_type": "SHARDED_STATE_DICT",
            "reshard_after_forward": run.parallel.sharding == "zero3",
            "offload_params": run.offload == "params",
        }
        says |= {"sharding"} | ({"offload"} if run.offload == "params" else set())
    start = (
        f"axolotl train axolotl.yaml --launcher torchrun -- --nproc-per-node {plan.per_machine}"
        if plan.machines == 1
        else torchrun_command(plan, "-m axolotl.cli.train axolotl.yaml")
    )
    return Draft(
        {"axolotl.yaml": yaml.safe_dump(config, sort_keys=False)},
        frozenset(says),
        start,
        ("The dataset (alpaca) and the learning rate (1e-4) are placeholders.",),
    )


@register(
    "llamafactory",
    label="LLaMA-Factory YAML",
    position=90,
    reference="llamafactory 0.9.5 hparams, transformers TrainingArguments",
)
def llamafactory(plan: Plan) -> Draft:
    """`llamafactory.yaml`."""
    says = _common(plan, "LLaMA-Factory")
    run, method, precision = plan.run, plan.run.method, plan.run.precision
    assert precision is not None
    packed = run.data is None or run.data.packing == "packed"
    config: dict[str, Any] = {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": plan.model,
        "template": "default",
        "dataset": "alpaca_en_demo",
        "output_dir": "out",
        "cutoff_len": run.batch.seq_len,
        "packing": packed,
        "per_device_train_batch_size": run.batch.micro,
        "gradient_accumulation_steps": run.batch.accumulation,
        "max_steps": plan.steps or 100,
        "optim": OPTIMIZERS[run.optimizer],
        "learning_rate": 1e-4,
        "disable_gradient_checkpointing": run.activation_checkpointing == "none",
        "flash_attn": {"eager": "disabled", "sdpa": "sdpa", "flash": "fa2"}[run.attention or "sdpa"],
        "finetuning_type": "full" if method.name == "full" else "lora",
        "logging_steps": 1,
        "report_to": "none",
    }
    if not packed and run.data is not None and run.data.packing == "padded":
        says.add("packing")
    if method.name != "full":
        targets = _targets(plan)
        config["lora_rank"] = method.rank or 8
        config["lora_alpha"] = int(method.alpha or 8)
        config["lora_dropout"] = method.dropout or 0.0
        config["lora_target"] = (
            "all"
            if targets in ("all-linear", None)
            else targets
            if isinstance(targets, str)
            else ",".join(targets or ())
        )
        if targets is None or (isinstance(targets, str) and targets != "all-linear"):
            says.discard("method")
        if method.name == "dora" or method.use_dora:
            config["use_dora"] = True
        if method.name == "rslora" or method.use_rslora:
            config["use_rslora"] = True
        if method.modules_to_save:
            config["additional_target"] = ",".join(method.modules_to_save)
    if precision.weights in ("nf4", "nf4-dq", "int8"):
        config |= {"quantization_method": "bnb", "quantization_bit": 8 if precision.weights == "int8" else 4}
        if precision.weights != "int8":
            config |= {"quantization_type": "nf4", "double_quantization": precision.weights == "nf4-dq"}
        says.add("quantized")
    if mixed := mixed_precision(plan):
        config |= mixed
        says.add("compute")
    if run.parallel.sharding in ("zero2", "zero3"):
        config |= {
            "fsdp": True,
            "fsdp_config": {
                "version": 2,
                "reshard_after_forward": run.parallel.sharding == "zero3",
                "cpu_offload": run.offload == "params",
            },
        }
        says |= {"sharding"} | ({"offload"} if run.offload == "params" else set())
    start = "FORCE_TORCHRUN=1 llamafactory-cli train llamafactory.yaml"
    if plan.machines > 1:
        where = f"NNODES={plan.machines} NODE_RANK=$RANK_OF_MACHINE MASTER_ADDR=$MASTER_ADDR MASTER_PORT=29500"
        start = f"FORCE_TORCHRUN=1 {where} llamafactory-cli train llamafactory.yaml"
    return Draft(
        {"llamafactory.yaml": yaml.safe_dump(config, sort_keys=False)},
        frozenset(says),
        start,
        ("The dataset (alpaca_en_demo), the template and the learning rate (1e-4) are placeholders.",),
    )
