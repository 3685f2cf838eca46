"""A CUDA out-of-memory message that was pasted, with its traceback or without."""

from __future__ import annotations

from planner.logs.oom_message import in_source
from planner.logs.reader import register
from planner.logs.record import Record
from planner.logs.source import Source


@register(
    "cuda_oom", label="a CUDA out-of-memory message", position=90, reference="PyTorch c10/cuda/CUDACachingAllocator.cpp, 1.0 to 2.13",
    recognises=lambda source: in_source(source) is not None,
)  # fmt: skip
def read(source: Source) -> Record:
    """The message alone."""
    return Record(source.name, "cuda_oom", oom=in_source(source))
