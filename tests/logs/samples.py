"""Logs as the trainers write them, in `data/`: wording of their sources, values of public logs. Event files are made here."""

from __future__ import annotations

import struct
from pathlib import Path

from planner.logs import Source
from planner.logs.readers.tensorboard import masked_crc

DATA = Path(__file__).parent / "data"
OOM = {path.stem.removeprefix("oom-"): path.read_text(encoding="utf-8") for path in sorted(DATA.glob("oom-*.txt"))}
"""Out-of-memory messages by the version of torch that wrote them; from public issues and logs."""


def _varint(value: int) -> bytes:
    found = b""
    while True:
        value, byte = value >> 7, value & 0x7F
        found += bytes([byte | (0x80 if value else 0)])
        if not value:
            return found


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def framed(event: bytes) -> bytes:
    """A record as TFRecord files hold it."""
    size = struct.pack("<Q", len(event))
    return size + struct.pack("<I", masked_crc(size)) + event + struct.pack("<I", masked_crc(event))


def events(scalars: list[tuple[float, int, str, float]]) -> bytes:
    """An event file of scalars (wall time, step, tag, value)."""
    found = framed(struct.pack("<Bd", 9, 1.7e9) + _message(3, b"brain.Event:2"))
    for wall, step, tag, value in scalars:
        said = _message(1, tag.encode()) + struct.pack("<Bf", 2 << 3 | 5, value)
        found += framed(struct.pack("<Bd", 9, wall) + _varint(2 << 3) + _varint(step) + _message(5, _message(1, said)))
    return found


TENSORBOARD = events(
    [
        (1.7e9 + 0.5 * step, step, tag, value)
        for step in range(1, 6)
        for tag, value in (("train/loss", 2.0), ("memory/max_reserved(GiB)", 30.5), ("time_metrics/end_to_end(s)", 0.5))
    ]
)
BY_READER: dict[str, bytes] = {
    "tensorboard": TENSORBOARD,
    **{
        name: (DATA / file).read_bytes()
        for name, file in (
            ("trainer_state", "trainer_state.json"), ("torchtitan", "torchtitan.txt"), ("megatron", "megatron.txt"), ("deepspeed", "deepspeed.txt"),
            ("torchtune", "torchtune.txt"), ("llamafactory", "trainer_log.txt"), ("lightning", "metrics.csv"), ("wandb", "wandb.csv"),
            ("nvidia_smi", "nvidia-smi.csv"), ("nvidia_dmon", "dmon.txt"), ("cuda_oom", "oom-2.4.txt"),
        )
    },
}  # fmt: skip
"""A log of every reader."""


def source(file: str) -> Source:
    """A file of `data/`, under a name that says nothing."""
    return Source("log", (DATA / file).read_bytes())
