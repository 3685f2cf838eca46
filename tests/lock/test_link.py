"""A full link's lock: it leads back to the same values, says what has changed, and is believed in nothing."""

from __future__ import annotations

import base64
import json
import random
import zlib
from typing import Any

import pytest

from planner import Run, estimate
from planner.lock import Lock, lock_of
from planner.ui.link import MAX_LOCK, pin, reopen, unpin

RUN = Run.model_validate({"model": "gpt2", "hardware": {"gpu": "L40S"}, "batch": {"micro": 4, "seq_len": 512}, "data": {"tokens": "50M"}})


@pytest.fixture(scope="module")
def lock() -> Lock:
    return lock_of(RUN, estimate(RUN))


def packed(document: Any) -> str:
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(document).encode())).decode().rstrip("=")


def opened(lock: Lock) -> dict[str, Any]:
    text = pin(lock)
    found: dict[str, Any] = json.loads(zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
    return found


def test_a_fresh_link_has_nothing_to_say(lock: Lock) -> None:
    text = pin(lock)
    assert text.isascii() and not set(text) & set("+/=&?# ") and len(text) < 2500
    assert unpin(text, RUN) == lock.model_copy(update={"sha256": ""})
    assert reopen(RUN, text) == (RUN, (), ())


def test_an_old_link_keeps_its_defaults_and_says_what_has_changed(lock: Lock) -> None:
    document = opened(lock)
    document["resolved"]["attention"] = "eager"
    document["catalogue"]["date"] = "2025-01-01"
    document["versions"] |= {"engine": "0", "numpy": "1.0"}
    document["figures"]["cost_usd"] *= 2
    run, remarks, changed = reopen(RUN, packed(document))
    assert run.attention == "eager" and not remarks
    assert any(line.startswith("Cost: ") for line in changed[:3])
    assert any("2025-01-01" in line for line in changed) and any("formulas" in line for line in changed)
    assert changed[-1].startswith("attention: the default was eager")
    assert not any("numpy" in line for line in changed)


@pytest.mark.parametrize("text", ["", "?", "x" * 500_000, "bm90IGpzb24", packed([]), packed({}), packed({"resolved": {}}), packed(b"x".hex() * MAX_LOCK)])
def test_a_lock_that_cannot_be_read_is_said_and_the_run_stays(text: str) -> None:
    run, remarks, changed = reopen(RUN, text)
    assert run is RUN and len(remarks) == 1 and not changed


def test_a_damaged_or_hostile_lock_never_ends_in_a_fault(lock: Lock) -> None:
    r, junk = random.Random(7), (None, [], {}, "=1+1", "<script>", -1, 1e308, {"a": {"b": {"c": {"d": {"e": 1}}}}}, ["x"] * 50)
    for _ in range(150):
        document = opened(lock)
        part = document[r.choice(list(document))]
        while isinstance(part, dict) and part:
            key = r.choice(list(part))
            if not isinstance(part[key], dict) or r.random() < 0.3:
                part[key] = r.choice(junk)
                break
            part = part[key]
        run, remarks, changed = reopen(RUN, packed(document))
        assert isinstance(run, Run) and all("\n" not in line and len(line) < 600 for line in (*remarks, *changed))
