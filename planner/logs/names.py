"""Names that trainers log their metrics under, and what each says in SI units.

Sources: transformers 5.24 `Trainer.log`, `speed_metrics` and `rewrite_logs`; torchtitan 0.3 `components/metrics.py`; torchtune 0.6
`training/memory.py` and its recipes; Axolotl 0.19 `core/trainers/base.py`; LLaMA-Factory 0.9 `train/callbacks.py`; Megatron-LM
`megatron/training/training.py` (`training_log`); NeMo `MegatronStepTimer` and progress printer; Lightning 2 `ThroughputMonitor`,
`DeviceStatsMonitor`; DeepSpeed 0.19 `utils/timer.py`; W&B's system metrics (`system.gpu.<index>.…`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from planner.logs.record import Kind
from planner.logs.source import number
from planner.units import GIB, MEGA, TERA

_MS: Final = 1e-3
NAMES: Final[dict[str, tuple[str, float]]] = {
    "loss": ("loss", 1), "train_loss": ("loss", 1), "training_loss": ("loss", 1), "lm loss": ("loss", 1), "reduced_train_loss": ("loss", 1),
    "loss_metrics/global_avg_loss": ("loss", 1),
    "step_seconds": ("step_s", 1), "step_time": ("step_s", 1), "step_time_s": ("step_s", 1), "iteration-time": ("step_s", 1), "iter_time": ("step_s", 1),
    "iteration_time": ("step_s", 1), "iteration-time/iteration-time": ("step_s", 1), "train_step_timing in s": ("step_s", 1), "step_time_ms": ("step_s", _MS),
    "time_metrics/end_to_end(s)": ("step_s", 1), "elapsed time per iteration (ms)": ("step_s", _MS),
    "time_metrics/data_loading(%)": ("data_share", 0.01), "data_loading_time": ("data_s", 1), "data_time": ("data_s", 1), "data_seconds": ("data_s", 1),
    "throughput(tps)": ("tokens_per_s_per_gpu", 1), "tokens_per_second_per_gpu": ("tokens_per_s_per_gpu", 1),
    "tokens_per_sec_per_gpu": ("tokens_per_s_per_gpu", 1), "tokens per gpu per second(tgs)": ("tokens_per_s_per_gpu", 1),
    "tokens/s/gpu": ("tokens_per_s_per_gpu", 1),
    "tokens/train_per_sec_per_gpu": ("tokens_per_s_per_gpu", 1), "tokens/total": ("tokens_seen", 1),
    "tokens_per_second": ("tokens_per_s", 1), "tokens_per_sec": ("tokens_per_s", 1), "tokens/s": ("tokens_per_s", 1),
    "samples per second": ("samples_per_s", 1), "device/samples_per_sec": ("samples_per_s", 1), "samples_per_sec": ("samples_per_s", 1),
    "num_input_tokens_seen": ("tokens_seen", 1), "consumed tokens": ("tokens_seen", 1), "consumed_tokens": ("tokens_seen", 1),
    "total_tokens": ("tokens_seen", 1),
    "consumed samples": ("samples_seen", 1), "consumed_samples": ("samples_seen", 1),
    "global batch size": ("batch_samples", 1), "global_batch_size": ("batch_samples", 1), "batch-size": ("batch_samples", 1),
    "actual seqlen": ("sequence", 1),
    "peak_allocated_bytes": ("allocated_bytes", 1), "mem-max-allocated-bytes": ("allocated_bytes", 1), "max_memory_allocated": ("allocated_bytes", 1),
    "peak_memory_usage": ("allocated_bytes", 1), "peak_memory_alloc": ("allocated_bytes", GIB), "memory/max_active(gib)": ("allocated_bytes", GIB),
    "memory/max_allocated (gib)": ("allocated_bytes", GIB), "max_memory_allocated(gb)": ("allocated_bytes", GIB),
    "peak_reserved_bytes": ("reserved_bytes", 1), "mem-reserved-bytes": ("reserved_bytes", 1), "max_memory_reserved": ("reserved_bytes", 1),
    "mem-max-reserved-bytes": ("reserved_bytes", 1), "peak_memory_reserved": ("reserved_bytes", GIB), "memory/max_reserved(gib)": ("reserved_bytes", GIB),
    "memory/device_reserved (gib)": ("reserved_bytes", GIB), "memory/device_mem_reserved(gib)": ("reserved_bytes", GIB),
    "memory/max_mem_active(gib)": ("allocated_bytes", GIB), "memory/max_mem_allocated(gib)": ("allocated_bytes", GIB),
    "vram_allocated": ("allocated_bytes", GIB), "vram_reserved": ("reserved_bytes", GIB),
    "memory/num_alloc_retries": ("retries", 1),
    "tflops": ("flops_per_s", TERA), "tflops_per_gpu": ("flops_per_s", TERA), "throughput per gpu (tflop/s/gpu)": ("flops_per_s", TERA),
    "eval_runtime": ("pause_s", 1), "eval/runtime": ("pause_s", 1), "save_seconds": ("pause_s", 1),
}  # fmt: skip
"""Name in lower case, without a leading "train/": quantity and factor to SI."""
STEP: Final = ("step", "global_step", "train/global_step", "trainer/global_step", "_step", "iteration", "current_steps")
TIME: Final = ("_timestamp", "timestamp", "wall_time", "time")
SINCE: Final = ("_runtime", "runtime", "relative time (process)")
_DEVICE: Final = re.compile(r"^(?:system[./])?gpu(?:[./]process)?[./](\d+)[./](\w+)$", re.I)
_TELEMETRY: Final[dict[str, tuple[str, float]]] = {
    "gpu": ("utilisation", 0.01), "powerwatts": ("power_w", 1), "enforcedpowerlimitwatts": ("power_limit_w", 1), "memoryallocatedbytes": ("used_bytes", 1),
    "temp": ("temperature_c", 1), "smclock": ("clock_hz", MEGA),
}  # fmt: skip
_EVALUATION: Final = re.compile(r"^(eval|val|valid|validation|test)(_|/|\b)", re.I)
_TRAIN: Final = re.compile(r"^(train|trainer|perf|lm-loss-training|iteration-time)[/|]", re.I)
_MEMORY_ALL: Final = re.compile(r"(reserved|allocated)_bytes\.all\.peak$", re.I)
MEMORY_UNITS: Final = {
    "b": 1.0, "bytes": 1.0, "kib": 2.0**10, "kb": 2.0**10, "mib": 2.0**20, "mb": 2.0**20, "gib": 2.0**30, "gb": 2.0**30, "tib": 2.0**40,
}  # fmt: skip
"""Trainers write MB and GB where they have divided by powers of 1024."""


def quantity(name: str) -> tuple[str, float] | None:
    """The quantity of a metric's name and its factor to SI; None for one that says nothing of time or memory."""
    low = name.strip().lower()
    if found := NAMES.get(low):
        return found
    if memory := _MEMORY_ALL.search(low):  # Lightning's DeviceStatsMonitor writes torch.cuda.memory_stats()
        return f"{memory[1]}_bytes", 1.0
    bare = _TRAIN.sub("", low)
    return NAMES.get(bare) if bare != low else None


def telemetry(name: str) -> tuple[str, str, float] | None:
    """(device, quantity, factor) of W&B's name of a system metric."""
    match = _DEVICE.match(name.strip())
    if match is None or (found := _TELEMETRY.get(match[2].lower())) is None:
        return None
    return match[1], *found


def kind_of(names: Mapping[str, Any]) -> Kind:
    """Whether an entry is of evaluation: it holds metrics of one and no time or loss of training."""
    said = [name for name, value in names.items() if value is not None and value != ""]
    tested = any(_EVALUATION.match(name) for name in said)
    trained = any((found := quantity(name)) is not None and found[0] not in ("pause_s", "tokens_seen") for name in said)
    return "evaluation" if tested and not trained else "train"


def values_of(names: Mapping[str, Any]) -> dict[str, float]:
    """What an entry's metrics say, in SI units; a negative one is none."""
    found: dict[str, float] = {}
    for name, value in names.items():
        if isinstance(name, str) and (meant := quantity(name)) is not None and (said := number(value)) is not None and (said >= 0 or meant[0] == "loss"):
            found.setdefault(meant[0], said * meant[1])
    return found


def told(names: Mapping[str, Any]) -> tuple[Kind, dict[str, float]] | None:
    """(kind, values) of an entry; None where it says nothing. Of an evaluation only how long it took counts."""
    kind, values = kind_of(names), values_of(names)
    if kind == "evaluation":
        return kind, {name: value for name, value in values.items() if name == "pause_s"}
    return (kind, values) if values else None
