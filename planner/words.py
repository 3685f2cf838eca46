"""Words that people write for fields, methods and optimizers, and the nearest known word to a misspelt one. No formulas."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel

from planner.parts import fields_of

METHODS: dict[str, dict[str, Any]] = {
    "houlsby": {"name": "adapter", "placement": "houlsby"},
    "pfeiffer": {"name": "adapter", "placement": "pfeiffer"},
    "parallel": {"name": "adapter", "placement": "parallel"},
    "parallel_adapter": {"name": "adapter", "placement": "parallel"},
    **{name: {"name": "lora", "init_lora_weights": name} for name in ("olora", "eva", "corda", "lora_ga")},
    **{key: {"name": "adapter"} for key in ("adapters", "bottleneck")},
    **{key: {"name": "head"} for key in ("head_only", "linear_probe", "linear_probing")},
    **{key: {"name": "loraplus"} for key in ("lora+", "lora_plus")},
    "lorafa": {"name": "lora_fa"},
    **{key: {"name": "alora"} for key in ("activated_lora", "a_lora")},
    "prompt_tuning": {"name": "prompt"},
    "prefix_tuning": {"name": "prefix"},
    "ptuning": {"name": "p_tuning"},
    **{key: {"name": "ln_tuning"} for key in ("layernorm", "layer_norm", "layernorm_tuning", "lntuning")},
    **{key: {"name": "adaption_prompt"} for key in ("llama_adapter", "adapter_v1")},
    **{key: {"name": "adaption_prompt_v2"} for key in ("llama_adapter_v2", "adapter_v2")},
    **{key: {"name": "full"} for key in ("fft", "full_finetuning", "full_fine_tuning")},
    "loreft": {"name": "reft"},
    "(ia)3": {"name": "ia3"},
    "freezing": {"name": "freeze"},
}
"""Fields that a name of a method stands for; hyphens read as underscores."""
OPTIMIZERS: dict[str, str] = {
    **dict.fromkeys(("schedule-free", "schedulefree", "schedule-free-adamw", "schedule-free-radam"), "adamw-schedule-free"),
    **dict.fromkeys(("adam", "adamw-torch", "adamw-hf"), "adamw"),
    **dict.fromkeys(("adamw-torch-fused", "fused-adamw"), "adamw-fused"),
    **dict.fromkeys(("adamw-bnb-8bit", "adamw-8bit", "adam8bit"), "adamw8bit"),
    **dict.fromkeys(("paged-adamw-32bit", "paged-adamw32bit"), "paged-adamw"),
    "paged-adamw-8bit": "paged-adamw8bit",
    **dict.fromkeys(("lion-8bit", "lion-bnb-8bit"), "lion8bit"),
    "lion-32bit": "lion",
    **dict.fromkeys(("paged-lion-32bit", "paged-lion32bit"), "paged-lion"),
    "paged-lion-8bit": "paged-lion8bit",
    "ademamix-8bit": "ademamix8bit",
    "galore-adamw": "galore",
    "apollo-adamw": "apollo",
    "adammini": "adam-mini",
    **dict.fromkeys(("sgd+momentum", "momentum"), "sgd-momentum"),
    "sophiag": "sophia",
    "lorafa": "lora-fa",
}
"""Other names of optimizers, transformers' among them; underscores read as hyphens."""
FIELDS: Final = {
    "seq_len": (
        "sequence_length", "sequence", "max_length", "max_seq_length", "max_seq_len", "seq_length", "context", "context_length",
        "cutoff_len",
    ),
    "micro": ("batch_size", "micro_batch", "micro_batch_size", "per_device_train_batch_size", "train_micro_batch_size_per_gpu", "device_batch_size"),
    "accumulation": ("gradient_accumulation", "gradient_accumulation_steps", "grad_accum", "grad_accum_steps", "accumulate_grad_batches"),
    "gpus": ("num_gpus", "n_gpus", "world_size", "gpu_count", "devices", "nproc_per_node"),
    "gpu": ("device", "accelerator", "gpu_type", "gpu_name"),
    "gpus_per_node": ("gpus_per_machine", "num_gpus_per_node"),
    "tp": ("tensor_parallel", "tensor_parallel_size", "tensor_model_parallel_size", "tensor_parallel_degree"),
    "pp": ("pipeline_parallel", "pipeline_parallel_size", "pipeline_model_parallel_size", "pipeline_parallel_degree"),
    "cp": ("context_parallel", "context_parallel_size", "context_parallel_degree"),
    "ep": ("expert_parallel", "expert_parallel_size", "expert_model_parallel_size", "expert_parallel_degree"),
    "virtual_pp": ("virtual_pipeline", "interleave", "virtual_pipeline_model_parallel_size"),
    "sharding": ("zero", "zero_stage", "fsdp", "stage", "sharding_strategy", "distributed"),
    "activation_checkpointing": ("gradient_checkpointing", "checkpointing", "recompute", "activation_recompute", "recompute_granularity"),
    "precision": ("dtype", "torch_dtype", "bf16", "fp16", "mixed_precision"),
    "optimizer": ("optim", "optimiser"),
    "attention": ("attn", "attn_implementation", "flash_attention"),
    "method": ("peft", "peft_type", "peft_method", "finetuning_type", "adapter"),
    "rank": ("lora_rank", "lora_r"),
    "model": ("model_name", "model_id", "model_name_or_path", "base_model", "pretrained_model_name_or_path"),
    "stack": ("framework", "backend", "engine", "software"),
    "epochs": ("num_epochs", "num_train_epochs", "max_epochs"),
    "tokens": ("num_tokens", "total_tokens", "train_tokens", "dataset_tokens"),
    "samples": ("num_samples", "examples", "dataset_size", "train_samples"),
    "usd_per_gpu_hour": ("usd_per_hour", "gpu_hour", "hourly", "price_per_hour", "cost_per_hour", "usd_per_gpu"),
}  # fmt: skip
"""Names that Transformers, peft, DeepSpeed, Megatron-LM, torchtune, Lightning, Axolotl and LLaMA-Factory use, or that people write, by ours."""
_NEAR_FIELD: Final = 0.72
"""Likeness from which a field was meant: many of them are short."""


def method(value: Mapping[Any, Any]) -> dict[Any, Any]:
    """A method's fields with its name as registered; what the run says goes before what the word stands for."""
    name = value.get("name")
    if not isinstance(name, str):
        return dict(value)
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    known = METHODS.get(plain, {"name": plain})
    return {**known, **value, "name": known["name"]}


def optimizer(name: str) -> str:
    """An optimizer's name as registered."""
    plain = name.strip().lower().replace("_", "-").replace(" ", "-")
    return OPTIMIZERS.get(plain, plain)


def nearest(word: str, known: Iterable[str]) -> str:
    """`Did you mean X?` for a word that is nearly a known one, else nothing."""
    found = _closest(word.lower(), list(known), 0.6)
    return f"Did you mean {found}? " if found else ""


def nearest_field(path: tuple[str | int, ...], model: type[BaseModel]) -> str | None:
    """Dotted path of the field of a run that a wrong one most likely meant; None where nothing is near.

    Arguments
    ---------
    path: where the wrong name stood, its last part the name itself.
    model: what holds all fields.
    """
    wrong = str(path[-1]).casefold().replace("-", "_")
    parent = ".".join(str(part) for part in path[:-1])
    fields = [field for field, _, _ in fields_of(model)]
    meant = next((ours for ours, others in FIELDS.items() if wrong in others), wrong)
    by_name = [field for field in fields if field.rpartition(".")[2] == meant]
    if by_name:
        return min(by_name, key=lambda field: (field.rpartition(".")[0] != parent, field.count(".")))
    beside = {field.rpartition(".")[2]: field for field in fields if field.rpartition(".")[0] == parent}
    anywhere = {field.rpartition(".")[2]: field for field in reversed(fields)}
    for names in (beside, anywhere):
        if close := _closest(wrong, list(names), _NEAR_FIELD):
            return names[close]
    return None


def _closest(word: str, names: list[str], likeness: float) -> str | None:
    """The known word that was meant: one with swapped letters, else the one most alike."""
    found = [n for n in names if sorted(n) == sorted(word)] or difflib.get_close_matches(word, names, 1, likeness)
    return found[0] if found else None
