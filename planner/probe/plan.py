"""What of a run can be built on one device, and how: every refusal names the field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from planner.errors import PlanError
from planner.estimate.resolve import Resolved, model_config, resolve
from planner.run import Run

if TYPE_CHECKING:
    from planner.device.profile import DeviceProfile

SIZES = ("target_len", "audio_seconds", "image_size", "images")
HEADS = (
    "causal-lm", "masked-lm", "sequence-classification", "image-classification", "object-detection", "contrastive", "ctc", "audio-classification",
)  # fmt: skip
_PEFT_ONLY = ("loftq", "pissa")
"""Starting values of LoRA, which cost nothing in a step: they are built as LoRA."""


@dataclass(frozen=True)
class Plan:
    """A run to build. config: the model's · attention: transformers' name of the kernel · notes: what is built in another way than planned."""

    run: Run
    resolved: Resolved
    config: Mapping[str, Any]
    attention: str
    notes: tuple[str, ...] = field(default=())

    @property
    def method(self) -> dict[str, Any]:
        """Fields of the method that are set, with lists where peft wants lists."""
        given = self.resolved.run.method.model_dump(exclude_none=True)
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
        if plain["name"] in ("qlora", *_PEFT_ONLY):
            plain["name"] = "lora"
        return plain

    @property
    def sizes(self) -> dict[str, Any]:
        """Sizes of the batch that the model reads."""
        batch = self.resolved.run.batch
        found = {name: getattr(batch, name) for name in SIZES if getattr(batch, name) is not None}
        return found if batch.seq_len is None else {"seq": batch.seq_len, **found}


def plan(run: Run, device: str, profile: DeviceProfile | None = None) -> Plan:
    """The run as it will be built on one device of kind `device` (cpu, cuda, …). Raises `PlanError` for what cannot be."""
    _check(run)
    for package in ("torch", "transformers", "peft"):
        if find_spec(package) is None:
            raise PlanError("probe", package, "is not installed", "Install torch, transformers and peft to measure real steps.")
    resolved = resolve(run, profile)
    full, notes = resolved.run, []
    _, config = model_config(run.model)
    if resolved.head not in HEADS:
        raise PlanError("head", resolved.head, "has no loss that the probe trains on", f"Use {', '.join(HEADS)}.")
    if "_class_name" in config:
        raise PlanError("model", resolved.model_name, "is a diffusers model, which the probe does not build", "Use a transformers model.")
    attention = str(resolved.attention)
    if attention == "flash":
        if device == "cuda" and find_spec("flash_attn") is not None:
            attention = "flash_attention_2"
        else:
            attention = "sdpa"
            notes.append("flash-attn is not installed here: torch's own fused attention (sdpa) ran in its place.")
    if resolved.head == "object-detection":
        notes.append("Boxes were not matched: the mean of logits and boxes stands for the loss, as in the plan.")
    if full.method.name in _PEFT_ONLY:
        notes.append(f"{full.method.name} differs from lora in its first values alone: lora was built.")
    if device == "cpu" and full.precision is not None and full.precision.weights in ("nf4", "nf4-dq", "int8"):
        raise PlanError("precision.weights", full.precision.weights, "is not built on a processor", "Use bf16 or fp32, or a GPU.")
    return Plan(run, resolved, config, attention, tuple(notes))


def _check(run: Run) -> None:
    """Fields that mean more than one device, other software, or what transformers does not do."""
    if run.stack != "hf":
        raise PlanError("stack", run.stack, "is not built by the probe", "Use stack: hf (transformers and peft).")
    if run.hardware.gpus > 1:
        raise PlanError("hardware.gpus", run.hardware.gpus, "are more than the one device of a probe", "Use gpus: 1.")
    if run.offload != "none":
        raise PlanError("offload", run.offload, "is not built by the probe", "Use offload: none.")
    if run.activation_checkpointing == "selective" or run.checkpoints.keep:
        raise PlanError("activation_checkpointing", "selective", "is nothing that transformers does by itself", "Use none or full.")
    if run.compression.sparsity or run.compression.pruned or run.compression.heads or run.compression.ffn:
        raise PlanError("compression", "", "is not built by the probe", "Leave compression out.")
    if run.optimizer_options.rank is not None or run.optimizer_options.every is not None:
        raise PlanError("optimizer_options", "", "are not built by the probe", "Leave optimizer_options out.")
