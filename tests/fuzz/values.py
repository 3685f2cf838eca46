"""Random values for a JSON schema: mostly such as it allows, sometimes junk."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2.5, 1e300, -1e300, 10**30, math.nan, math.inf, -math.inf, "", " ", "\x00", "a" * 3000, "1e309", "NaN", "../../etc/passwd",
    "=1+1", "<script>", "\ud800", "１２", "none", "auto", [], [None], [[]], {}, {"": None}, {"a": {"b": [1, "x"]}}, ["a", 1], b"bytes", object,
)  # fmt: skip
"""What a file, a link or a script may say where something else was meant."""


def junk(r: random.Random) -> Any:
    """Something that nobody meant."""
    return r.choice(JUNK)


def value(r: random.Random, schema: Mapping[str, Any], whole: Mapping[str, Any], wild: float = 0.03) -> Any:
    """A value that a schema allows; with the probability `wild`, at every level, junk in place of it."""
    if r.random() < wild:
        return junk(r)
    if "$ref" in schema:
        return value(r, whole["$defs"][schema["$ref"].rsplit("/", 1)[-1]], whole, wild)
    if "anyOf" in schema:
        return value(r, r.choice(schema["anyOf"]), whole, wild)
    if "enum" in schema:
        return r.choice(schema["enum"])
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if kind == "boolean":
        return r.random() < 0.5
    if kind in ("integer", "number"):
        return _number(r, schema, kind == "integer")
    if kind == "array":
        return [value(r, schema.get("items", schema.get("prefixItems", [{}])[0]), whole, wild) for _ in range(r.randrange(5))]
    if kind == "object":
        return _mapping(r, schema, whole, wild)
    if kind == "string":
        return r.choice(("q_proj", "all-linear", "adamw", "hf", "layers.0", "World", "Germany", "2:4", "lambda", "512", "1.5B", ".*proj", "(", "x" * 40))
    return None if kind == "null" else junk(r)


def _number(r: random.Random, schema: Mapping[str, Any], whole: bool) -> Any:
    """A number between the bounds, small ones as likely as large ones."""
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", 10**9))
    if r.random() < 0.1:
        return r.choice((low, high))
    top = min(high, low + 10 ** r.choice((0, 1, 1, 2, 2, 3, 4, 6, 9, 15)))
    found = low + (top - low) * r.random()
    return int(found) if whole else found


def _mapping(r: random.Random, schema: Mapping[str, Any], whole: Mapping[str, Any], wild: float) -> dict[Any, Any]:
    """A mapping with what is required and a few of the rest."""
    fields, required = schema.get("properties", {}), schema.get("required", ())
    share = r.choice((0.05, 0.15, 0.4))
    found: dict[Any, Any] = {name: value(r, sub, whole, wild) for name, sub in fields.items() if name in required or r.random() < share}
    if not fields and (more := schema.get("additionalProperties")):
        for key in r.sample(("16", "128", "512", "4096", "x", "q_proj"), r.randrange(4)):
            found[key] = value(r, more if isinstance(more, dict) else {}, whole, wild)
    if r.random() < wild:
        found[r.choice(("typo", "", "gpu ", "__class__", 7, None))] = junk(r)
    return found


def mutated(r: random.Random, document: Any, times: int) -> Any:
    """A JSON document with some of its values removed, replaced, scaled or moved."""
    for _ in range(times):
        parent, key = _place(r, document)
        if parent is None:
            continue
        old = parent[key]
        act = r.randrange(6)
        if act == 0 and isinstance(parent, dict):
            del parent[key]
        elif act == 1 and isinstance(old, int | float) and not isinstance(old, bool):
            parent[key] = type(old)(old * r.choice((0, -1, 2, 3, 0.5, 1000)))
        elif act == 2 and isinstance(old, int | float) and not isinstance(old, bool):
            parent[key] = old + r.choice((-1, 1, 7))
        elif act == 3:
            parent[key] = [old]
        elif act == 4 and isinstance(old, bool | None):
            parent[key] = not old
        else:
            parent[key] = junk(r)
    return document


def _place(r: random.Random, document: Any) -> tuple[Any, Any]:
    """Some value's container and key."""
    here, key = None, None
    inner = document
    while isinstance(inner, dict | list) and inner and (here is None or r.random() < 0.7):
        here, key = inner, r.choice(list(inner)) if isinstance(inner, dict) else r.randrange(len(inner))
        inner = here[key]
    return here, key
