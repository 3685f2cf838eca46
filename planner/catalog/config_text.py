"""Reading a config.json that anyone may have written: limits first, then JSON, then shape."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

from planner.errors import PlanError

MAX_BYTES: Final = 2**20
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 200_000
"""Values of a configuration, each time it is reached: aliases of YAML can make a small file enormous."""
_FIX = "Give the config.json of a Hugging Face model."


def parse_config(text: str, field: str) -> dict[str, Any]:
    """The mapping in `text`, or a `PlanError` with what is wrong with it.

    Errors
    ------
    PlanError: too large, too deep, not JSON, a duplicate key, NaN or Infinity, or not a model configuration.
    """
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise PlanError(field, text[:80], "is larger than 1 MiB", _FIX)
    if _depth(text) > MAX_DEPTH:
        raise PlanError(field, text[:80], f"is nested deeper than {MAX_DEPTH} levels", _FIX)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, item in pairs:
            if key in mapping:
                raise PlanError(field, key, "is a key that stands twice in the configuration", "Remove one of them.")
            mapping[key] = item
        return mapping

    def constant(name: str) -> NoReturn:
        raise PlanError(field, name, "is not a number that JSON allows", "Write a finite number or null.")

    try:
        value = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=unique, parse_constant=constant)
    except PlanError:
        raise
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise PlanError(field, text[:80], f"is not valid JSON ({where})", _FIX) from None
    except ValueError:
        # Python refuses integers of more than 4300 digits.
        raise PlanError(field, text[:80], "has a number that is too long", _FIX) from None
    return check_config(value, field)


def check_config(value: object, field: str) -> dict[str, Any]:
    """`value` as a plain model configuration of JSON types: an object with `model_type` (diffusers: `_class_name`).

    Errors
    ------
    PlanError: not an object, no `model_type`, a value that JSON cannot hold, a number that is not finite, or too deep.
    """
    if not isinstance(value, dict):
        raise PlanError(field, value, "is not a JSON object", _FIX)
    plain = _plain(value, field, 1, [MAX_VALUES])
    kind = plain.get("model_type", plain.get("_class_name"))  # diffusers names the class instead
    if not isinstance(kind, str) or not kind.strip():
        raise PlanError(f"{field}.model_type", kind, "is not a model type", 'Write it as in the config.json: "llama".')
    return dict(plain)


def _depth(text: str) -> int:
    """Deepest nesting of brackets outside strings; the JSON parser would recurse that deep."""
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _plain(value: Any, field: str, depth: int, budget: list[int]) -> Any:
    budget[0] -= 1
    if budget[0] < 0:
        raise PlanError(field, "…", f"holds more than {MAX_VALUES:,d} values", _FIX)
    if depth > MAX_DEPTH:
        raise PlanError(field, "…", f"is nested deeper than {MAX_DEPTH} levels", _FIX)
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise PlanError(field, key, "is a key that is not text", "Write every key as text.")
        return {key: _plain(item, f"{field}.{key}"[:200], depth + 1, budget) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, field, depth + 1, budget) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise PlanError(field, value, "is not a finite number", "Write a finite number or null.")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**18:
        raise PlanError(field, "an integer above 10^18", "is too large", "Write a smaller number.")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise PlanError(field, value, "is not a value that JSON can hold", _FIX)
