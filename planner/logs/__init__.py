"""Logs that come back: read, set beside the plan, explained, and kept as evidence. Importing this package registers the readers."""

from planner.logs import readers
from planner.logs.audit import Audit, audit
from planner.logs.files import read_files, read_uploads
from planner.logs.reader import READERS, Reader, read, register
from planner.logs.record import OutOfMemory, Point, Record
from planner.logs.source import Source

__all__ = [
    "READERS", "Audit", "OutOfMemory", "Point", "Reader", "Record", "Source", "audit", "read", "read_files", "read_uploads", "readers", "register",
]  # fmt: skip
