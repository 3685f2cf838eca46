"""From a measured row to the run file of the same configuration."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, get_args

from planner.catalog import default_network
from planner.catalog.accelerators import find_accelerator
from planner.errors import PlanError
from planner.evidence.architecture import Skip, model_of, module_names
from planner.evidence.lengths import memory_length, walked_share
from planner.evidence.network import network_gbps, network_kind, nvidia_machine_gbps
from planner.evidence.rows import Row
from planner.run import DtypeName, Method, WeightDtype
from planner.units import GIB
from planner.workload.methods import METHODS
from planner.workload.precision import QUANTIZED, SCALED

__all__ = ["Skip", "to_run"]

Purpose = Literal["time", "memory"]

STACKS: Final = {
    "hf": "hf",
    "hf-trainer": "hf-4",
    "peft": "hf-4",
    "ms-swift": "hf-4",
    "llama-factory": "hf-4",
    "fsdp-qlora": "hf-4",
    "pytorch": "hf-4",
    "paddle": "hf-4",
    "tensorflow": "tensorflow",
    "tensorflow2": "hf-compile",
    "composer": "composer",
    "torchtitan": "torchtitan",
    "fms-fsdp": "torchtitan",
    "xtuner": "torchtitan",
    "megatron": "megatron",
    "nemo": "nemo",
    "nanotron": "nanotron",
    "deepspeed": "deepspeed",
    "litgpt": "litgpt",
    "torchtune": "torchtune",
    "maxtext": "maxtext",
}
"""Training software of the evidence to the stack that executes a step most alike: TensorFlow's XLA fuses as TorchInductor does, and
what was measured with Hugging Face's trainer ran transformers 4, whose checkpoints recompute whole blocks."""

_KERNELS: Final = (("liger", "hf-liger"), ("unsloth", "hf-liger"), ("foak", "hf-kernels"))
"""Words of `variant` that name fused kernels under the Hugging Face trainer, and the stack that has them."""

_WEIGHTS: Final = {"gptq-int4": "int4"}
"""4-bit GPTQ in groups of 128 keeps 4.16 bits a weight, double-quantised NF4 4.13."""
_DROPOUT: Final = {"litgpt": 0.05}
"""Dropout on the adapters' input where a source does not repeat the default of its software (litgpt/finetune/lora.py)."""
_PAIR = re.compile(r"(\w+)=([^\s;]+)")
_METHOD_KEYS: Final = frozenset(
    key
    for name, info in Method.model_fields.items()
    for key in (name, info.alias)
    if key and name not in ("name", "targets", "adapter_dtype")
)
_FIELD_OF: Final = {info.alias: name for name, info in Method.model_fields.items() if info.alias}
_ALL_LINEAR: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_OFFLOADS: Final = frozenset({"none", "optimizer", "params", "optimizer+params", "activations"})


def to_run(row: Row, purpose: Purpose = "time") -> dict[str, Any]:
    """Mapping of a run file (see `planner.run.Run`) for a measured row.

    Arguments
    ---------
    row: the measured configuration; measured results (rates, memory, utilisation) are never read.
    purpose: where samples differ in length, time follows their mean and memory the longest batch (`planner.evidence.lengths`).

    Errors
    ------
    Skip: the columns do not determine a run.
    """
    if row.problem:
        raise Skip(row.problem)
    if not row.seq_len or row.seq_len < 1:
        raise Skip("seq_len is blank")
    model = model_of(row)
    run: dict[str, Any] = {
        "task": _choice(row.task, ("pretrain", "sft"), "task")
        or ("sft" if (row.method or "full") != "full" else "pretrain"),
        "model": model,
        "method": _method(row, model),
        "optimizer": row.optimizer or "adamw",
        "hardware": _hardware(row),
        "parallel": _parallel(row),
        "batch": _batch(row, purpose),
        "activation_checkpointing": _choice(row.act_ckpt, ("none", "selective", "full"), "act_ckpt") or "none",
        "offload": _choice(row.offload, tuple(_OFFLOADS), "offload") or "none",
    }
    if row.framework or row.compute_dtype in SCALED:
        run["stack"] = _stack(row)
    if precision := _precision(row):
        run["precision"] = precision
    if attention := _attention(row):
        run["attention"] = attention
    if row.arch == "encoder":
        run["head"] = "masked-lm" if run["task"] == "pretrain" else "sequence-classification"
        if "on the predicted positions" in (row.variant or "") or (row.framework == "deepspeed" and run["task"] == "pretrain"):
            run["head"] = "none"  # 15 % of the positions: nearer to no head than to a head on all of them
    return run


def _choice(value: str | None, allowed: tuple[str, ...], column: str) -> str | None:
    if value is not None and value not in allowed:
        raise Skip(f"{column}: {value!r} is none of {', '.join(sorted(allowed))}")
    return value


def _attention(row: Row) -> str | None:
    """ "flash" of the table is any fused kernel: before Ampere, where flash attention does not run, that is sdpa."""
    attention = _choice(row.attention, ("eager", "sdpa", "flash"), "attention")
    if attention != "flash" or row.gpu is None:
        return attention
    try:
        capability = find_accelerator(row.gpu).compute_capability
    except PlanError:
        return attention
    return "sdpa" if capability is not None and capability < 8.0 else attention


def stack_of(row: Row) -> str | None:
    """The stack that a row is estimated with, None where its software has none."""
    try:
        return _stack(row)
    except Skip:
        return None


def _stack(row: Row) -> str:
    if not row.framework and row.compute_dtype in SCALED:
        return "megatron"  # fp8 results that name no software are MLPerf's, which ran NeMo or its like on Transformer Engine
    stack = STACKS.get((row.framework or "").lower())
    if stack is None:
        raise Skip(f"training software {row.framework!r} has no stack")
    if stack == "megatron" and _capability(row) >= 9.0:
        return "nemo"  # Megatron-Core of that time, with the overlaps that NeMo's recipes switch on
    if stack == "nanotron" and _blocks(row):
        return "nanotron-blocking"
    told = "compile=0 assumed" not in (row.quality_reason or "") or row.compute_dtype not in SCALED  # float8 is not run uncompiled
    if stack == "litgpt" and row.compile:
        return "litgpt-compile"
    if stack == "torchtitan" and row.compile is False and told:
        return "torchtitan-eager"
    if stack == "torchtitan" and _of_2024(row):
        return "torchtitan-2024"
    if stack == "torchtitan" and "async TP" in (row.variant or ""):
        return "torchtitan-async-tp"
    if stack == "deepspeed" and row.arch == "encoder" and row.attention == "flash":
        return "deepspeed-kernels"
    if stack == "hf-4" and row.source_group == "qwen" and row.sharding == "zero3":
        return "deepspeed"  # as its scripts for several GPUs
    if stack == "hf-4" and "scattermoe" in (row.variant or ""):
        return "hf-scattermoe"
    if stack == "hf-4":
        fused = [name for word, name in _KERNELS if word in (row.variant or "")]
        if fused and fused[0] == "hf-liger" and "foak" in (row.variant or "") and (row.model or "").startswith("Mistral"):
            return "hf-kernels"  # the plugin of fms patches the head of Llama and Granite only
        if not fused and row.weights_dtype == "gptq-int4" and "autogptq" not in (row.variant or ""):
            return "hf-4-gptq"  # the plugin of fms runs Triton kernels instead
        return fused[0] if fused else "hf-compile" if row.compile else stack
    return stack


_LOSS_COMPILED: Final = 1000
"""Number of torchtitan's pull requests (spring of 2025) from which on the loss is compiled too and segments of memory expand."""
_PULL_REQUEST = re.compile(r"\(#(\d+)")


def _of_2024(row: Row) -> bool:
    """Whether torchtitan was older than its compiled loss: by pull request, or by what the source says of its date."""
    if row.source_group == "fms-fsdp":  # its own FSDP loop of 2024
        return True
    text = row.source or ""
    found = _PULL_REQUEST.search(text)
    return int(found[1]) < _LOSS_COMPILED if found else "2024" in text or "performance.md" in text


def _capability(row: Row) -> float:
    """Compute capability of the row's part, 0 where there is none."""
    try:
        return find_accelerator(row.gpu or "").compute_capability or 0.0
    except PlanError:
        return 0.0


def _blocks(row: Row) -> bool:
    """Whether a row of nanotron's sweep is one of those whose pipelines block.

    The sweep ran in batches of jobs, on software with and without the fault, and the version is not told. Which jobs went into which
    batch shows in the columns: all on 64 machines, on 32 those with several sequences a micro step, and on 4 to 16 those that
    neither shard the optimizer nor have just one replica.
    """
    if row.source_group != "nanotron" or (row.pp or 1) == 1:
        return False
    gpus, replicas = _gpus(row), _replicas(row)
    if gpus >= 256:
        return gpus >= 512 or (row.micro_batch or 1) > 1
    return gpus >= 32 and row.sharding == "ddp" and replicas > 1


def _method(row: Row, model: str | dict[str, Any]) -> dict[str, Any]:
    method: dict[str, Any] = {"name": row.method or "full"}
    if method["name"] == "full":
        return method
    for key, text in _PAIR.findall((row.peft_detail or "").replace("/", " ")):
        if key in _METHOD_KEYS and (value := _number(text)) is not None:
            method[key] = value
    if row.lora_r:
        method.pop("r", None)
        method["rank"] = row.lora_r
    elif "r" in method:
        method["rank"] = method.pop("r")
    if method["name"] in ("lora", "qlora") and row.framework in _DROPOUT:
        method.setdefault("dropout", _DROPOUT[row.framework])
    if targets := _targets(row, model):
        method["targets"] = targets
    if row.adapter_dtype in ("fp32", "bf16", "fp16"):
        method["adapter_dtype"] = row.adapter_dtype
    elif row.autocast is False and row.weights_dtype in ("bf16", "fp16"):
        method["adapter_dtype"] = (
            row.weights_dtype
        )  # fp32 adapters would run fp32 products here, which no such row's speed shows
    if method["name"] == "trainable_tokens" and row.trainable_params and row.hidden:
        method["token_indices"] = list(range(round(row.trainable_params / row.hidden)))  # which ones they are changes nothing
    if row.variant and "embedding and output layer trained in full" in row.variant:
        method["modules_to_save"] = ["embed_tokens", module_names(model).get("lm_head", "lm_head")]
    kind = METHODS.get(method["name"])
    read = None if kind is None else {"name", *kind.fields}
    return {key: value for key, value in method.items() if read is None or _FIELD_OF.get(key, key) in read}


def _number(text: str) -> int | float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number == int(number) and abs(number) < 1e9 else number


def _targets(row: Row, model: str | dict[str, Any]) -> str | list[str] | None:
    told = row.lora_targets or dict(_PAIR.findall(row.peft_detail or "")).get("target_modules", "")
    names = told.replace(",", " ").split()
    if names == ["all-linear"]:
        return "all-linear"
    plain = [name for part in names for name in (_ALL_LINEAR if part == "all-linear" else (part,))]
    here = module_names(model)
    return list(dict.fromkeys(here.get(name, name) for name in plain)) or None


def _precision(row: Row) -> dict[str, Any]:
    compute = row.compute_dtype or {"fp32": "fp32", "bf16": "bf16", "fp16": "fp16"}.get(row.weights_dtype or "")
    if compute is None:
        return {}
    if compute not in get_args(DtypeName):
        raise Skip(f"compute type {compute} is not covered")
    sixteen_bit = "bf16" if compute in SCALED else compute
    weights = _WEIGHTS.get(row.weights_dtype or "", row.weights_dtype) or ("fp32" if compute == "tf32" else sixteen_bit)
    if weights not in get_args(WeightDtype):
        raise Skip(f"weights stored as {weights} are not covered")
    if weights in QUANTIZED and (row.method or "full") == "full":
        raise Skip(f"weights stored as {weights} cannot be trained in full")
    trains_adapters = (
        row.method or "full"
    ) != "full"  # what trains adapters over a lower-precision base runs under autocast unless it says otherwise
    casts = (weights == "fp32" or trains_adapters) and compute in ("bf16", "fp16", *SCALED)
    wide = {"unquantized": "fp32"} if weights in ("nf4", "nf4-dq") and _prepared(row) else {}
    recipe = {"recipe": "row"} if compute == "fp8" and "rowwise" in (row.variant or "") else {}
    return {
        **recipe,
        **wide,
        "weights": weights,
        "compute": compute,
        "autocast": casts if row.autocast is None else row.autocast,
        "master_weights": bool(row.master_weights),
    }


def _prepared(row: Row) -> bool:
    """Whether peft's prepare_model_for_kbit_training ran: ms-swift calls it, and so did the baselines of fms (its own plugins do not)."""
    return row.framework == "ms-swift" or ("baseline-peft-bnb" in (row.variant or "") and _gpus(row) == 1)


def _gpus(row: Row) -> int:
    return row.gpus or (row.dp or 1) * (row.tp or 1) * (row.pp or 1) * (row.cp or 1)


def _replicas(row: Row) -> int:
    return max(1, _gpus(row) // ((row.tp or 1) * (row.pp or 1) * (row.cp or 1)))


def _hardware(row: Row) -> dict[str, Any]:
    gpus = _gpus(row)
    hardware: dict[str, Any] = {"gpus": gpus}
    if row.gpu:
        hardware["gpu"] = (
            {"base": row.gpu, "usable_memory_bytes": round(row.gpu_mem_gib * GIB)} if row.gpu_mem_gib else row.gpu
        )
    if row.gpus_per_node and not _in_rack(row):
        hardware["gpus_per_node"] = min(row.gpus_per_node, gpus)
    gbps = network_gbps(row.interconnect, row.gpus_per_node)
    if gbps is None and row.id.startswith("dle-"):  # NVIDIA's examples, measured on its own machines
        gbps = nvidia_machine_gbps(row.gpu_as_told)
        hardware["network"] = "infiniband"
    if gbps is not None:
        hardware["network_gbps"] = gbps
    if kind := network_kind(row.interconnect):
        hardware["network"] = kind
    return hardware


def _in_rack(row: Row) -> bool:
    """Whether the source's machines are trays of a rack that one NVLink domain joins: the domain counts, not the tray."""
    try:
        return row.gpu is not None and default_network(find_accelerator(row.gpu)).link_domain > 8
    except PlanError:
        return False


def _divides_sequences(row: Row) -> bool:
    """Sequence parallelism that is not told: NeMo's performance recipes switch it on with tensor parallelism, and Megatron-Core trains experts under
    tensor parallelism in no other way; they then spread over the tensor-parallel ranks too."""
    return (row.tp or 1) > 1 and (row.framework == "nemo" or (row.framework == "megatron" and bool(row.experts)))


def _parallel(row: Row) -> dict[str, Any]:
    divided = _divides_sequences(row) if row.sequence_parallel is None else row.sequence_parallel
    parallel: dict[str, Any] = {
        "tp": row.tp or 1,
        "pp": row.pp or 1,
        "cp": row.cp or 1,
        "ep": row.ep or 1,
        "virtual_pp": _chunks(row),
        "sequence_parallel": divided,
    }
    if row.sharding and _replicas(row) * (row.cp or 1) > 1:
        parallel["sharding"] = "ddp" if row.sharding == "none" else row.sharding
    return parallel


def _chunks(row: Row) -> int:
    """Model chunks of a pipeline stage. NeMo's recipes for dense models interleave layer by layer wherever a page tells it; where none does, that is taken."""
    stages, layers = row.pp or 1, row.layers or 0
    untold = "virtual_pp=1 assumed" in (row.quality_reason or "") and row.framework == "nemo" and not row.experts
    return layers // stages if untold and stages > 1 and layers and layers % stages == 0 else row.virtual_pp or 1


def _batch(row: Row, purpose: Purpose) -> dict[str, Any]:
    length = memory_length(row) if purpose == "memory" else round((row.seq_len or 0) * walked_share(row))
    replicas = _replicas(row)
    micro, accumulation, total = row.micro_batch, row.grad_accum, row.global_batch
    if micro is None and total:
        micro = total // (replicas * (accumulation or 1))
    if not micro:
        raise Skip("micro_batch is blank")
    if accumulation is None:
        accumulation = max(1, total // (micro * replicas)) if total else 1
    return {"micro": micro, "accumulation": max(1, accumulation), "seq_len": length}
