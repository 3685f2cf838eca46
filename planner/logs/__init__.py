"""Logs that come back: read, set beside the plan, explained, and kept as evidence. Importing this package registers the readers."""

from planner.logs import readers
from planner.logs.reader import READERS, Reader, read, register
from planner.logs.record import OutOfMemory, Point, Record
from planner.logs.source import Source

__all__ = ["READERS", "OutOfMemory", "Point", "Reader", "Record", "Source", "read", "readers", "register"]
