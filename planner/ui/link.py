"""Full links: a whole run in the address, validated when it is read, with a remark on each value that could not be honoured."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Final

from pydantic import ValidationError

from planner.errors import PlanError, shorten
from planner.run import Run, describe
from planner.ui.state import LINK_VERSION

MAX_LINK: Final = 400_000
"""Characters of a link that are read."""


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
