"""TensorBoard event files: the scalars.

A file is TFRecords: length (8 bytes), masked CRC-32C of it, that many bytes of a serialized `Event`, masked CRC-32C of them. Sources:
tensorflow/core/lib/io/record_writer.h; tensorflow/core/util/event.proto (wall_time 1, step 2, summary 5); summary.proto (value 1; tag 1,
simple_value 2, tensor 8); tensor.proto (dtype 1, tensor_content 4, float_val 5, double_val 6). The tensorboard package's own reader would bring grpc,
protobuf and werkzeug with it and stops at the first damaged record as this one does; these few lines read the same scalars (a test compares them).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import reduce
from typing import Final

from planner.logs.names import quantity
from planner.logs.reader import register
from planner.logs.record import Point, Record
from planner.logs.source import MAX_POINTS, Source, number

MAX_RECORD: Final = 2**26
"""Bytes of one record; images and graphs are passed over, larger ones are damage."""
MAX_RECORDS: Final = 3_000_000
_TABLE: Final = tuple(reduce(lambda crc, _: (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0), range(8), byte) for byte in range(256))


def _is(source: Source) -> bool:
    start = source.read(0, 12)
    return len(start) == 12 and masked_crc(start[:8]) == struct.unpack("<I", start[8:])[0] and 0 < struct.unpack("<Q", start[:8])[0] <= MAX_RECORD


@register("tensorboard", label="TensorBoard event file", position=20, reference="tensorflow/core/util/event.proto", recognises=_is)
def read(source: Source) -> Record:
    """Scalars of known names, joined by step."""
    points: dict[tuple[int, bool], tuple[str, float, dict[str, float]]] = {}
    notes: list[str] = []
    try:
        for count, (at, event) in enumerate(_events(source)):
            wall, step, scalars = _event(event)
            for tag, value in scalars:
                tested = tag.lower().startswith(("eval", "val", "test"))
                meant, said = quantity(tag), number(value)
                if (meant is None and not tested) or said is None or (said < 0 and meant is not None and meant[0] != "loss"):
                    continue
                values = points.setdefault((step, tested), (f"record at byte {at}", wall, {}))[2]
                if meant is not None and (not tested or meant[0] == "pause_s"):
                    values[meant[0]] = said * meant[1]
            if len(points) >= MAX_POINTS or count >= MAX_RECORDS:
                notes.append(f"Only the first {len(points):,} steps were read.")
                break
    except ValueError as error:
        notes.append(f"The file is damaged or cut off {error}; what stands before was read.")
    found = tuple(
        Point(where, "evaluation" if tested else "train", values, step, wall) for (step, tested), (where, wall, values) in sorted(points.items())
    )
    return Record(source.name, "tensorboard", found, notes=tuple(notes))


def _events(source: Source) -> Iterator[tuple[int, bytes]]:
    """(place, bytes) of every record. Raises ValueError with the place of damage."""
    with source.open() as file:
        at = 0
        while head := file.read(12):
            if len(head) < 12:
                raise ValueError(f"at byte {at}")
            size = struct.unpack("<Q", head[:8])[0]
            if masked_crc(head[:8]) != struct.unpack("<I", head[8:])[0] or size > MAX_RECORD:
                raise ValueError(f"at byte {at}")
            body = file.read(size + 4)
            if len(body) < size + 4:
                raise ValueError(f"at byte {at}")
            if size <= 2**14 and masked_crc(body[:-4]) != struct.unpack("<I", body[-4:])[0]:  # larger ones hold no scalar that is looked for
                raise ValueError(f"at byte {at}")
            if size <= 2**14:
                yield at, body[:-4]
            at += 16 + size


def _event(data: bytes) -> tuple[float, int, list[tuple[str, float]]]:
    """(wall time [s], step, scalars) of a serialized Event."""
    wall, step, scalars = 0.0, 0, []
    for field, kind, value in _fields(data):
        if field == 1 and kind == 1:
            wall = struct.unpack("<d", value)[0]
        elif field == 2 and kind == 0:
            step = int.from_bytes(value, "little")
        elif field == 5 and kind == 2:
            scalars += [scalar for f, k, v in _fields(value) if f == 1 and k == 2 and (scalar := _scalar(v)) is not None]
    return number(wall) or 0.0, step if step < 2**53 else 0, scalars


def _scalar(data: bytes) -> tuple[str, float] | None:
    """(tag, value) of a Summary.Value; None for images, histograms and text."""
    tag, found = "", None
    for field, kind, value in _fields(data):
        if field == 1 and kind == 2:
            tag = value[:300].decode("utf-8", "replace")
        elif field == 2 and kind == 5:
            found = struct.unpack("<f", value)[0]
        elif field == 8 and kind == 2:
            found = _tensor(value)
    return None if found is None else (tag, found)


def _tensor(data: bytes) -> float | None:
    """A tensor of one float or double."""
    kinds = {1: ("<f", 4), 2: ("<d", 8)}
    dtype, found = 0, None
    for field, kind, value in _fields(data):
        if field == 1 and kind == 0:
            dtype = int.from_bytes(value, "little")
        elif dtype in kinds and ((field == 4 and kind == 2) or (field in (5, 6))) and len(value) == kinds[dtype][1]:
            found = struct.unpack(kinds[dtype][0], value)[0]
    return found


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(number, wire type, bytes) of a protocol buffer's fields. Raises ValueError where it is none."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield field, kind, (value % 2**64).to_bytes(8, "little")
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError("within a record")
        if at + size > len(data):
            raise ValueError("within a record")
        yield field, kind, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("within a record")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("within a record")


def masked_crc(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and offset as TFRecord files store it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
