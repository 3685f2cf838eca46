"""Training steps that were measured elsewhere with plain torch, transformers and peft, judged like those of a probe.

The rows (see `planner.calibrate.recorded`) of kind step hold the model's config, method, precision, batch, times by phase, memory of CUDA's
allocator and energy. Dropout was off, gradients were not clipped, and there was no training loop: the plan they are compared with leaves these out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from planner.calibrate.recorded import Line, read_lines
from planner.errors import PlanError
from planner.probe.device import Device
from planner.probe.measure import Measured, Spread
from planner.probe.prove import judged
from planner.probe.table import summary
from planner.run import Run, parse_run

if TYPE_CHECKING:
    from planner.device.profile import DeviceProfile

DROPOUT: Final = {
    "llama": ("attention_dropout",), "qwen2": ("attention_dropout",), "mixtral": ("attention_dropout",),
    "gpt2": ("resid_pdrop", "embd_pdrop", "attn_pdrop"), "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "t5": ("dropout_rate",), "vit": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
}  # fmt: skip
"""Fields of a config that the recording set to zero, by model type."""
DEFAULTS: Final = {
    "bert": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 30522},
    "t5": {"vocab_size": 32128},
}  # fmt: skip
"""What transformers' config of a type holds where the row leaves it out."""
TRAINABLE: Final = {"bitfit": ["bias$", "classifier"], "head": ["classifier"]}


def run_of(row: Line) -> Run:
    """What was trained, as a run. Raises `PlanError` for a row that says too little."""
    try:
        config = dict(row["config"])
        kind = config["model_type"]
        config = DEFAULTS.get(kind, {}) | config | dict.fromkeys(DROPOUT.get(kind, ()), 0.0)
        precision = str(row["precision"])
        batch: dict[str, Any] = {"micro": int(row["micro_batch"])}
        if kind != "vit":
            batch["seq_len"] = int(row["seq_len"])
        return parse_run(
            {
                "model": config,
                "method": _method(row),
                "precision": precision.removesuffix("-sgd"),
                "optimizer": "sgd" if precision.endswith("-sgd") else "adamw",
                "batch": batch,
                "attention": row["attention"],
                "activation_checkpointing": "full" if row["checkpointing"] else "none",
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, PlanError):
            raise
        raise PlanError("recorded", row.get("case"), f"is a step that lacks {error}", "Record it again.") from None


def _method(row: Line) -> dict[str, Any]:
    name, rank, targets = row["method"], int(row["rank"] or 0), row["targets"]
    if name in TRAINABLE:
        return {"name": "freeze", "trainable": TRAINABLE[name]}
    if name in ("prompt", "prefix"):
        return {"name": name, "virtual_tokens": rank}
    if name in ("lora", "dora", "vera"):
        return {"name": name, "rank": rank, "targets": targets} | ({"alpha": 2 * rank} if name == "lora" else {})
    return {"name": {"ln": "ln_tuning"}.get(name, name)}


def measured_of(row: Line, device: Line) -> Measured:
    """The row as a probe's result. Its spread is the quickest and the slowest step, which is wider than quartiles."""
    common: dict[str, Any] = {"device": device["name"], "device_kind": "cuda" if "total_memory" in device else "cpu"}
    if row.get("outcome") == "oom":
        return Measured(outcome="oom", **common)
    step = float(row["step_time_s"])
    phases = {name: float(row[f"{name}_s"]) for name in ("forward", "backward", "optimizer") if f"{name}_s" in row}
    clock = row.get("sm_mhz")
    return Measured(
        outcome="ok",
        step_time_s=Spread(median=step, low=float(row.get("step_min_s", step)), high=float(row.get("step_max_s", step))),
        phases={name: Spread(median=value, low=value, high=value) for name, value in phases.items()},
        samples=({"step": step, **phases},),
        tokens_per_s=row.get("tokens_per_s"),
        allocated_bytes=row.get("peak_allocated"),
        reserved_bytes=row.get("peak_reserved"),
        static_bytes=row.get("static_bytes"),
        memory_kind="allocator" if "peak_allocated" in row else None,
        power_w=row.get("mean_power_w"),
        energy_per_step_j=row.get("energy_j_per_step"),
        sm_clock_mhz=None if clock is None else float(clock),
        parameters=row.get("parameters"),
        trainable_parameters=row.get("trainable"),
        versions={name: str(row[name]) for name in ("transformers", "peft") if name in row} | {"torch": str(device.get("torch"))},
        date=str(device.get("utc", "")),
        **common,
    )


def judge(path: str | Path, profile: DeviceProfile | None = None) -> dict[str, Any]:
    """Predicted beside measured of every recorded step, as `prove` writes it. A row that cannot be planned says why.

    Errors: PlanError for a file without steps.
    """
    device, lines = read_lines(path)
    steps = [row for row in lines if row["kind"] == "step"]
    if not steps:
        raise PlanError("recorded", str(path), "holds no training step", "Record steps, not kernels alone.")
    memory = device.get("total_memory")
    place = Device(
        torch.device("cuda" if memory is not None else "cpu"), device["name"], None if memory is None else int(memory), device.get("sms")
    )
    rows: dict[str, dict[str, Any]] = {}
    for row in steps:  # recorded again: the last time counts
        rows[str(row["case"])] = _judged(row, device, place, profile)
    found = {name: row for name, row in rows.items() if "problem" not in row}
    return {
        "device": device["name"],
        "kind": place.kind,
        "rows": {name: {"problem": row["problem"]} if "problem" in row else {"run": row.pop("run")} for name, row in rows.items()},
        "predicted": found,
        "summary": summary(found.values()),
        "missing": [],
    }


def _judged(row: Line, device: Line, place: Device, profile: DeviceProfile | None) -> dict[str, Any]:
    try:
        run, measured = run_of(row), measured_of(row, device)
    except PlanError as error:
        return {"problem": str(error)}
    entry = judged(run, place, profile, measured, clipped=False)
    problem = next((found for name in ("uncalibrated", "calibrated") if (found := entry.get(name, {}).get("problem"))), None)
    return {"problem": problem} if problem else {"run": run.model_dump(mode="json", exclude_none=True), **entry}
