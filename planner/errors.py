"""The one exception for input that cannot be planned: it names the field, the value and the fix."""

from __future__ import annotations

_SHOWN = 120


def shorten(value: object, limit: int = _SHOWN) -> str:
    """Text of `value` for a message: one line, at most `limit` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


class PlanError(ValueError):
    """Input that cannot be planned.

    Arguments
    ---------
    field: dotted path of the offending input, as in a run file (``parallel.tp``).
    value: what was given.
    problem: what is wrong with it, one clause.
    fix: what to write instead, one sentence.
    """

    def __init__(self, field: str, value: object, problem: str, fix: str) -> None:
        self.field, self.value, self.problem, self.fix = field, value, problem, fix
        super().__init__(f"{field}: {shorten(value)!r} {problem}. {fix}")

    def __reduce__(self) -> tuple[type[PlanError], tuple[str, object, str, str]]:
        return type(self), (self.field, self.value, self.problem, self.fix)
