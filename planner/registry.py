"""Formats that register themselves: each under its name once, in the order of its position."""

from __future__ import annotations

from typing import Protocol, TypeVar


class Placed(Protocol):
    """What a registry lists. position: orders it among the others."""

    @property
    def name(self) -> str: ...

    @property
    def position(self) -> int: ...


T = TypeVar("T", bound=Placed)


def enter(known: dict[str, T], item: T, what: str) -> None:
    """Add an item in its place; a second one of the same name is a mistake. what: the kind of thing, for the message."""
    if item.name in known:
        raise RuntimeError(f"{what} {item.name} is registered twice")
    known[item.name] = item
    for later in sorted(known.values(), key=lambda each: each.position):
        known[later.name] = known.pop(later.name)
