"""Ten sessions search at once: a few run, the others wait their turn, and none is forgotten."""

from __future__ import annotations

import subprocess
import sys
import time

from planner.ui import search_queue
from planner.ui.search_queue import Queue


def short() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(0.1)"])


def test_ten_at_once_run_two_by_two_and_all_end() -> None:
    queue = Queue(at_once=2)
    tickets = [queue.enter(short) for _ in range(10)]
    assert [queue.before(t) for t in tickets[-2:]] != [0, 0]
    end = time.monotonic() + 30
    while not all(t.ended for t in tickets) and time.monotonic() < end:
        for t in tickets:
            queue.before(t)
        assert sum(t.process is not None and not t.ended for t in tickets) <= 2
        time.sleep(0.01)
    assert all(t.ended and t.process is not None and t.process.returncode == 0 for t in tickets)


def test_places_are_counted_and_a_withdrawn_search_makes_room() -> None:
    queue = Queue(at_once=1)
    first, second, third = (queue.enter(short) for _ in range(3))
    assert [queue.before(t) for t in (first, second, third)] == [0, 1, 2]
    queue.withdraw(second)
    assert second.ended and queue.before(third) == 1
    assert first.process is not None
    first.process.wait()
    assert queue.before(third) == 0 and third.process is not None
    third.process.wait()
    assert second.process is None


def test_a_waiting_search_without_a_session_blocks_nobody() -> None:
    queue = Queue(at_once=1)
    first, gone, third = (queue.enter(short) for _ in range(3))
    gone.seen -= 2 * search_queue.SILENT_S
    assert queue.before(third) == 1
    assert first.process is not None
    first.process.wait()
    assert queue.before(third) == 0 and gone.process is None
    assert third.process is not None
    third.process.wait()
