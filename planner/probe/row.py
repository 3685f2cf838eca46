"""A probe as a row of the table of measured runs, with where it comes from."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

from planner.catalog import identify
from planner.errors import PlanError
from planner.evidence.rows import COLUMNS
from planner.probe.device import Device
from planner.probe.measure import Measured
from planner.probe.plan import Plan
from planner.units import GIB, GIGA

_SIZES = (
    ("layers", ("num_hidden_layers", "n_layer", "n_layers", "num_layers")),
    ("hidden", ("hidden_size", "n_embd", "d_model")),
    ("heads", ("num_attention_heads", "n_head", "num_heads")),
    ("kv_heads", ("num_key_value_heads",)),
    ("head_dim", ("head_dim", "d_kv")),
    ("ffn", ("intermediate_size", "n_inner", "d_ff", "ffn_dim")),
    ("vocab", ("vocab_size",)),
    ("experts", ("num_local_experts", "num_experts", "n_routed_experts")),
    ("experts_per_token", ("num_experts_per_tok",)),
    ("expert_ffn", ("moe_intermediate_size",)),
)
"""Column, and the names that configs have for it."""
_GATED = {"silu": "swiglu", "gelu_pytorch_tanh": "geglu"}
_PLAIN = {"gelu": "gelu", "gelu_new": "gelu", "relu": "relu", "relu2": "squared-relu"}


def row(made: Plan, measured: Measured, place: Device) -> dict[str, str]:
    """The row's cells, by column; blank where nothing was measured or the column does not apply."""
    run, config = made.resolved.run, made.config
    known = identify(place.name, place.memory_bytes, place.units) if place.kind == "cuda" else None
    batch, method, precision = run.batch, run.method, run.precision
    assert precision is not None
    length = batch.seq_len or 1
    tokens = batch.micro * batch.accumulation * length
    times = measured.step_time_s
    memory = measured.reserved_bytes if measured.reserved_bytes is not None else measured.allocated_bytes
    values: dict[str, Any] = {
        "id": identity(made, measured),
        "source_group": "probe",
        "source": f"planner probe, {measured.date}, " + ", ".join(f"{name} {version}" for name, version in measured.versions.items()),
        "framework": "hf",
        "task": run.task,
        "model": made.resolved.model_name,
        "hf_id": run.model if isinstance(run.model, str) and "/" in run.model and not run.model.endswith(".json") else None,
        "arch": _arch(config, run.head),
        "params_b": measured.parameters / GIGA if measured.parameters else None,
        **{column: next((config[key] for key in keys if config.get(key) is not None), None) for column, keys in _SIZES},
        "tied": config.get("tie_word_embeddings"),
        "mlp": _mlp(config),
        "seq_len": batch.seq_len,
        "method": method.name,
        "lora_r": method.rank,
        "lora_targets": method.targets if isinstance(method.targets, str) else " ".join(method.targets or ()) or None,
        "peft_detail": _detail(made),
        "trainable_params": measured.trainable_parameters,
        "weights_dtype": precision.weights,
        "compute_dtype": precision.compute,
        "autocast": precision.autocast,
        "master_weights": precision.master_weights,
        "optimizer": run.optimizer,
        "gpu": known.name if known else None,
        "gpu_as_told": measured.device,
        "gpus": 1, "dp": 1, "tp": 1, "pp": 1, "cp": 1, "ep": 1, "sharding": "none",
        "micro_batch": batch.micro,
        "grad_accum": batch.accumulation,
        "global_batch": batch.micro * batch.accumulation,
        "act_ckpt": run.activation_checkpointing,
        "attention": "flash" if made.attention == "flash_attention_2" else made.attention,
        "compile": False,
        "offload": "none",
        "packing_or_padding": "packed to seq_len",
        "step_time_s": times.median if times else None,
        "tokens_per_s_gpu": tokens / times.median if times and batch.seq_len else None,
        "samples_per_s": measured.samples_per_s,
        "peak_mem_gib": memory / GIB if memory else None,
        "mem_kind": ("reserved" if measured.reserved_bytes is not None else "allocated") if memory else None,
        "outcome": measured.outcome,
        "targets": "fit" if measured.outcome == "oom" else "time memory",
        "quality": "A",
    }  # fmt: skip
    return {column: _cell(values.get(column)) for column in COLUMNS}


def identity(made: Plan, measured: Measured) -> str:
    """A name of its own for every measurement: what was run, and when."""
    text = json.dumps([made.resolved.run.model_dump(mode="json"), measured.device, measured.date], sort_keys=True)
    return f"probe-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def append(path: Path, cells: dict[str, str]) -> None:
    """Add a row to a table, or start one. Raises `PlanError` for a file that is no such table or cannot be written."""
    try:
        known = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError("rows", str(path), f"cannot be read ({type(error).__name__})", "Name a CSV table of runs, or a new file.") from None
    header = next(csv.reader(io.StringIO(known)), None)
    if header is not None and not {"id", "outcome", "step_time_s"} <= set(header):
        raise PlanError("rows", str(path), "is no table of measured runs", "Name a CSV table that a probe started, or a new file.")
    text = io.StringIO()
    writer = csv.DictWriter(text, header or list(COLUMNS), extrasaction="ignore", lineterminator="\n")
    if header is None:
        writer.writeheader()
    elif not known.endswith("\n"):
        text.write("\n")
    writer.writerow(cells)
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise PlanError("rows", str(path), f"cannot be written ({error.strerror})", "Name a file in a folder that can be written.") from None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _arch(config: Any, head: str | None) -> str:
    if head == "image-classification":
        return "vit"
    if config.get("is_encoder_decoder") or config.get("model_type") in ("t5", "bart", "mbart", "whisper", "mt5", "pegasus"):
        return "encoder-decoder"
    return "decoder" if head == "causal-lm" else "encoder" if head in ("masked-lm", "sequence-classification") else "other"


def _mlp(config: Any) -> str | None:
    activation = config.get("hidden_act") or config.get("activation_function") or config.get("hidden_activation")
    gated = config.get("model_type") in ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "mixtral", "qwen3_moe")
    return _GATED.get(activation or "silu") if gated else _PLAIN.get(activation or "")


def _detail(made: Plan) -> str | None:
    """Fields of the method that have no column of their own, as name=value."""
    own = {"name", "rank", "targets"}
    given = {key: value for key, value in made.method.items() if key not in own and isinstance(value, int | float | str)}
    return "; ".join(f"{key}={value}" for key, value in given.items()) or None
