"""The field that a wrong name meant: other tools' names for it, else the nearest of our own."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any, Final, get_args

from pydantic import BaseModel

ELSEWHERE: Final = {
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

_CLOSE: Final = 0.72


def nearest_field(path: tuple[str | int, ...], model: type[BaseModel]) -> str | None:
    """Dotted path of the field of a run that a wrong one most likely meant; None where nothing is near.

    Arguments
    ---------
    path: where the wrong name stood, its last part the name itself.
    model: what holds all fields.
    """
    wrong = str(path[-1]).casefold().replace("-", "_")
    parent = ".".join(str(part) for part in path[:-1])
    fields = list(_paths(model))
    meant = [ours for ours, others in ELSEWHERE.items() if wrong in others]
    by_name = [field for field in fields if field.rpartition(".")[2] == (meant[0] if meant else wrong)]
    if by_name:
        return min(by_name, key=lambda field: (field.rpartition(".")[0] != parent, field.count(".")))
    beside = {field.rpartition(".")[2]: field for field in fields if field.rpartition(".")[0] == parent}
    anywhere = {field.rpartition(".")[2]: field for field in reversed(fields)}
    for names in (beside, anywhere):
        if close := difflib.get_close_matches(wrong, names, 1, _CLOSE):
            return names[close[0]]
    return None


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        if (part := _part(field.annotation)) is not None:
            yield from _paths(part, f"{prefix}{name}.")


def _part(annotation: Any) -> type[BaseModel] | None:
    return next((kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
