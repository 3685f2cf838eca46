"""Full links: a whole run in the address, with the lock of what it stood on, validated when it is read; a remark on each value that could not be
honoured, and a sentence on what has changed since."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import Any, Final

from pydantic import ValidationError

from planner.errors import PlanError, shorten
from planner.lock import Change, Lock, changes, pinned
from planner.run import Run, describe
from planner.ui.estimates import planned
from planner.ui.state import LINK_VERSION

MAX_LINK: Final = 400_000
"""Characters of a link that are read."""


MAX_LOCK: Final = 200_000
"""Bytes of a link's lock, unpacked."""
_QUIET: Final = ("python", "numpy", "pydantic", "torch", "transformers", "peft")
"""Versions that a reader of a link need not be told."""


def encode(run: Run) -> str:
    """The run as the text of a link: compact JSON in base64 that needs no escaping."""
    text = json.dumps(run.model_dump(mode="json", exclude_unset=True), separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(text: str, version: str | None = None) -> tuple[Run | None, tuple[str, ...]]:
    """The run of a link, and a sentence on each value that could not be honoured. The run is None when nothing of it can be read.

    Arguments
    ---------
    text: what `encode` wrote.
    version: the link's `v`.
    """
    remarks = []
    if version not in (None, str(LINK_VERSION)):
        remarks.append(
            f"The link is of version {shorten(version, 20)}, this app reads version {LINK_VERSION}: defaults may differ."
        )
    try:
        if len(text) > MAX_LINK:
            raise ValueError("too long")
        mapping = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None, (*remarks, "The plan in the link cannot be read: part of it is missing or was changed on the way.")
    if not isinstance(mapping, dict):
        return None, (*remarks, "The plan in the link is not a run.")
    for _ in range(50):
        try:
            return Run.model_validate(mapping), tuple(remarks)
        except ValidationError as error:
            problem = describe(error)
            remarks.append(str(problem))
            first = error.errors(include_url=False)[0]
            where = (
                tuple(problem.field.split("."))
                if isinstance(first.get("ctx", {}).get("error"), PlanError)
                else first["loc"]
            )
            if not _remove(mapping, where):
                break
    return None, tuple(remarks)


def pin(lock: Lock) -> str:
    """A lock as the text of a link, without the run as stated, which stands in the link already."""
    document = lock.model_dump(mode="json", exclude={"inputs", "sha256"})
    document["resolved"].pop("model", None)
    packed = zlib.compress(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(), 9)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def unpin(text: str, run: Run) -> Lock | None:
    """The lock that `pin` wrote for a run; None for one that cannot be read."""
    try:
        if len(text) > MAX_LINK:
            return None
        reader = zlib.decompressobj()
        plain = reader.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), MAX_LOCK)
        if not reader.eof:
            return None
        document = json.loads(plain)
        document["resolved"]["model"] = run.model
        return Lock.model_validate({**document, "inputs": run.model_dump(mode="json", exclude_unset=True)})
    except (ValueError, binascii.Error, zlib.error, RecursionError, KeyError, TypeError):
        return None


def reopen(run: Run, text: str) -> tuple[Run, tuple[str, ...], tuple[str, ...]]:
    """The run of a link with every value that it had, remarks, and what has changed since the link was made, figures first.

    Arguments
    ---------
    run: what `decode` read.
    text: the link's `lock`.
    """
    lock = unpin(text, run)
    if lock is None:
        return run, ("What the link's plan stood on cannot be read: it cannot be said what has changed since.",), ()
    try:
        kept, moved = pinned(lock)
        now = changes(lock, planned(kept))
    except PlanError as error:
        return run, (f"The link's plan cannot be computed today: {error.field} {error.problem}.",), ()
    return kept, (), tuple(one.text for one in (*now, *moved) if not _is_quiet(one))


def _is_quiet(one: Change) -> bool:
    return one.name in _QUIET if one.kind == "version" else one.kind == "catalogue" and one.name != "date"


def _remove(mapping: Any, where: tuple[Any, ...]) -> bool:
    """Take what stands at a place, or at the deepest part of it that there is, out of a mapping."""
    for depth in range(len(where), 0, -1):
        here = mapping
        for name in where[: depth - 1]:
            here = here.get(name) if isinstance(here, dict) else None
        if isinstance(here, dict) and where[depth - 1] in here:
            del here[where[depth - 1]]
            return True
    return False
