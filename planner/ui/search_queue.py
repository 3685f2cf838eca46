"""Searches of all sessions of a server: a few run at once, others wait their turn, so that ten sessions do not slow each other to a halt."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Final

AT_ONCE: Final = max(1, min(4, (os.cpu_count() or 2) - 1))
"""Searches that run at the same time: one core stays for the pages."""
SILENT_S: Final = 10.0
"""A waiting search that nobody asked after for so long has lost its session, and is passed over."""
Start = Callable[[], "subprocess.Popen[bytes]"]


class Ticket:
    """A search that runs or waits. start: makes its process once it is its turn."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.process: subprocess.Popen[bytes] | None = None
        self.withdrawn = False
        self.seen = time.monotonic()

    @property
    def ended(self) -> bool:
        """Whether it takes no place any more: its process is over, or it never began and was withdrawn."""
        return self.withdrawn if self.process is None else self.process.poll() is not None


class Queue:
    """First come, first served. at_once: searches that run at the same time."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once, self._tickets, self._lock = at_once, list[Ticket](), threading.Lock()

    def enter(self, start: Start) -> Ticket:
        """Ask for a search; it starts at once where there is room."""
        ticket = Ticket(start)
        with self._lock:
            self._tickets.append(ticket)
        self.before(ticket)
        return ticket

    def before(self, ticket: Ticket) -> int:
        """How many stand before it; 0 where it runs or has ended. Starts whose turn it is."""
        with self._lock:
            now = time.monotonic()
            ticket.seen = now
            self._tickets = [t for t in self._tickets if not t.ended and (t.process is not None or now - t.seen < SILENT_S)]
            if ticket not in self._tickets and not ticket.ended:
                self._tickets.append(ticket)  # it was away for long: it waits anew
            running = sum(t.process is not None for t in self._tickets)
            for waiting in [t for t in self._tickets if t.process is None][: max(0, self._at_once - running)]:
                waiting.process = waiting.start()
            return 0 if ticket.process is not None or ticket.ended else 1 + self._tickets.index(ticket) - self._at_once

    def withdraw(self, ticket: Ticket) -> None:
        """Take a search back that has not begun."""
        with self._lock:
            ticket.withdrawn = True


QUEUE: Final = Queue()
"""The one of this server."""
