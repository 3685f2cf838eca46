"""`trainer_state.json` of Hugging Face's Trainer: its log, entry by entry.

Source: transformers 5.24 `trainer_callback.TrainerState` (fields), `trainer_utils.speed_metrics` (the last entry), `TrainerMemoryTracker` (with
`skip_memory_metrics=False`), `Trainer.log`: with `include_num_input_tokens_seen` every entry holds the seconds since the start (`train_runtime`).
Otherwise the Trainer logs no seconds of a step: `step_seconds` stands there where a script logs it, as the one does that `planner launch` writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from planner.logs.names import told
from planner.logs.reader import kept, register
from planner.logs.record import Point, Record
from planner.logs.source import Source, number, whole

_FACTS: Final = ("global_step", "max_steps", "train_batch_size", "num_input_tokens_seen", "logging_steps", "num_train_epochs", "total_flos")
_LAST: Final = {
    "train_runtime": "train_seconds", "train_steps_per_second": "steps_per_s", "train_samples_per_second": "samples_per_s",
    "train_tokens_per_second": "tokens_per_s",
}  # fmt: skip
"""Of the last entry: means over all of the training, pauses included."""


def _is(source: Source) -> bool:
    if '"log_history"' not in source.head and '"global_step"' not in source.head:
        return False
    document = source.document
    return isinstance(document, dict) and isinstance(document.get("log_history"), list)


@register("trainer_state", label="Hugging Face trainer_state.json", position=10, reference="transformers 5.24 TrainerState", recognises=_is)
def read(source: Source) -> Record:
    """Entries of `log_history`; the last one's means are facts."""
    document: Mapping[str, Any] = source.document
    history = [entry for entry in document["log_history"] if isinstance(entry, dict)]
    facts: dict[str, float | str] = {name: value for name in _FACTS if (value := number(document.get(name))) is not None and value > 0}
    for entry in history:
        if "train_loss" not in entry and "train_samples_per_second" not in entry:
            continue
        facts |= {meant: value for name, meant in _LAST.items() if (value := number(entry.get(name))) is not None and value > 0}
        if (peak := _peak(entry)) is not None:
            facts["allocated_bytes"] = peak
    points, notes = kept(_points(history))
    if any(isinstance(entry.get("loss"), float) and number(entry["loss"]) is None for entry in history):
        notes = (*notes, "The loss became infinite or no number at some step.")
    return Record(source.name, "trainer_state", points, facts, notes=notes)


def _points(history: list[dict[str, Any]]) -> Iterator[Point]:
    for place, entry in enumerate(history):
        if "train_loss" in entry or "train_samples_per_second" in entry:
            continue  # the means of all
        if (said := told(entry)) is not None:
            yield Point(f"log_history[{place}]", *said, whole(entry.get("step")), number(entry.get("train_runtime")))


def _peak(entry: Mapping[str, Any]) -> float | None:
    """Peak of allocated memory by TrainerMemoryTracker: what was there before, and what init and training added [bytes]."""
    parts = [number(entry.get(name)) for name in ("before_init_mem_gpu", "init_mem_gpu_alloc_delta", "train_mem_gpu_alloc_delta", "train_mem_gpu_peaked_delta")]
    known = [part for part in parts if part is not None]
    return sum(known) if parts[-1] is not None and sum(known) > 0 else None
