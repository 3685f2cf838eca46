"""A plan that is written down: what was asked, what was resolved, what it stands on and what came out, so that a later reader sees what has changed."""

from planner.lock.changes import Change, changes, pinned
from planner.lock.document import MAX_LOCK_BYTES, Lock, load_lock, lock_in, lock_of, lock_text, parse_lock
from planner.lock.limits import Check, Limits, check_limits
from planner.lock.pins import leaves, standalone

__all__ = [
    "MAX_LOCK_BYTES",
    "Change",
    "Check",
    "Limits",
    "Lock",
    "changes",
    "check_limits",
    "leaves",
    "load_lock",
    "lock_in",
    "lock_of",
    "lock_text",
    "parse_lock",
    "pinned",
    "standalone",
]
