"""`planner doctor`: what a bug report needs, and the list of all run-file fields."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from planner import __version__, units
from planner.catalog import accelerators, models, prices, snapshot_date
from planner.catalog.refreshed import read_refreshed
from planner.cli.inputs import add_json
from planner.cli.output import bold, emit_json, table, wrapped
from planner.parts import fields_of
from planner.run import Run

NAME = "doctor"
HELP = "what a bug report needs; --fields lists the fields of a run file, --methods what it may name"
DESCRIPTION = "Versions, catalogue dates and a self-check, to paste into a bug report."

REQUIRED = ("numpy", "pydantic", "PyYAML")
OPTIONAL = {
    "streamlit": "pages",
    "plotly": "pages",
    "huggingface_hub": "models from the hub",
    "torch": "calibration, probes",
    "transformers": "probes",
    "peft": "probes",
    "gpuhunt": "current prices",
    "nvidia-ml-py": "clocks and power while measuring",
}
"""Packages that only parts of Plumbline need, and which parts."""


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    command.add_argument("--fields", action="store_true", help="list every field of a run file with its default")
    command.add_argument("--methods", action="store_true", help="list methods, optimizers, stacks and model types")
    add_json(command)


def execute(options: argparse.Namespace) -> None:
    """Print the examination, or the fields."""
    if options.fields:
        _print_fields(options.json)
        return
    if options.methods:
        _print_registries(options.json)
        return
    found = examine()
    if options.json:
        emit_json(found)
        return
    for title, rows in found.items():
        print(bold(title))
        print(table([(name, str(value)) for name, value in rows.items()]))


def registries() -> dict[str, list[tuple[str, str, str]]]:
    """What a run file may name, as each registered entry describes itself: (name, help, fields or reference)."""
    from planner.workload import FAMILIES
    from planner.workload.methods import METHODS
    from planner.workload.optimizers import OPTIMIZERS
    from planner.workload.stacks import STACKS

    return {
        "Methods": [(m.name, m.help, ", ".join(m.fields) or "no field") for m in METHODS.values()],
        "Optimizers": [(o.name, o.help, o.reference) for o in OPTIMIZERS.values()],
        "Stacks": [(s.name, s.help, s.reference) for s in STACKS.values()],
        "Model types": [(name, "", "") for name in sorted(FAMILIES)],
    }


def _print_registries(as_json: bool) -> None:
    found = registries()
    if as_json:
        emit_json(found)
        return
    for title, rows in found.items():
        print(bold(title))
        named_only = not any(row[1] for row in rows)
        print(wrapped(", ".join(row[0] for row in rows)) if named_only else table([(name, f"{text} [{more}]") for name, text, more in rows]))


def examine() -> dict[str, dict[str, str]]:
    """What stands here: programs, catalogue, profiles, and whether an estimate works."""
    return {
        "Plumbline": {
            "version": __version__,
            "Python": f"{platform.python_version()} ({platform.python_implementation()})",
            "platform": platform.platform(),
        },
        "Packages": {name: _version(name) for name in REQUIRED}
        | {name: f"{_version(name)} ({use})" for name, use in OPTIONAL.items()},
        "Catalogue": {
            "models": str(len(models())),
            "accelerators": f"{len(accelerators())}, newest of {max(part.year or 0 for part in accelerators())}",
            "prices": f"{len(prices())} offers up to {snapshot_date().isoformat()}{_refreshed()}",
            "device profiles": _profiles(),
        },
        "Self-check": {
            "gpt2 on one H100": _self_check(),
            "output": f"{sys.stdout.encoding}, {'terminal' if sys.stdout.isatty() else 'no terminal'}",
        },
    }


def _refreshed() -> str:
    state = read_refreshed()
    if state.problem:
        return f"; refreshed prices are left out: {state.problem}"
    return f", of them refreshed: {', '.join(state.asked)}" if state.asked else ""


def fields() -> list[dict[str, str]]:
    """Every field of a run file: dotted path, what it takes, default, description; other accepted names in `also`."""
    return [
        {
            "field": path,
            "takes": "fields below" if part is not None else _takes(field),
            "default": "" if part is not None else _default(field),
            "also": "" if part is not None else field.alias or "",
            "description": field.description or "",
        }
        for path, field, part in fields_of(Run)
    ]


def _print_fields(as_json: bool) -> None:
    rows = fields()
    if as_json:
        emit_json(rows)
        return
    shown: list[tuple[str, ...]] = [("Field", "Default", "Takes, and what it means")]
    for row in rows:
        also = f" Also: {row['also']}." if row["also"] else ""
        meaning = (
            row["description"] if row["takes"] == "fields below" else f"{row['takes']}. {row['description']}{also}"
        )
        shown.append((row["field"], row["default"], meaning))
    print(table(shown, indent=0, header=True))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _profiles() -> str:
    from planner.device.default import default_profile
    from planner.errors import PlanError

    def basis(part: Any) -> str:
        try:
            return default_profile(part).basis
        except PlanError:
            return "none"

    counts = Counter(basis(part) for part in accelerators())
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _self_check() -> str:
    from planner import estimate

    start = time.perf_counter()
    try:
        result = estimate(Run(model="gpt2", hardware={"gpu": "H100 SXM 80GB"}))
    except Exception as error:
        return f"fails: {type(error).__name__}: {error}"
    took = units.format_seconds(time.perf_counter() - start, 2)
    return f"fits: {result.fits}, step {units.format_seconds(result.step_time_s, 2)}, basis {result.basis}, answered in {took}"


def _takes(field: FieldInfo) -> str:
    words = list(dict.fromkeys(_words(field.annotation)))
    return " or ".join(words)


def _words(annotation: Any) -> list[str]:
    if annotation is type(None):
        return []
    origin = get_origin(annotation)
    if origin is Literal:
        return [" | ".join(str(choice) for choice in get_args(annotation))]
    if origin in (Union, UnionType):
        return [word for kind in get_args(annotation) for word in _words(kind)]
    if origin is tuple:
        return ["list"]
    if origin is dict:
        return ["mapping"]
    if hasattr(annotation, "__metadata__"):
        return _words(get_args(annotation)[0])
    return [
        {"str": "text", "int": "whole number", "float": "number", "bool": "true | false"}.get(
            getattr(annotation, "__name__", ""), str(annotation)
        )
    ]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None or value is PydanticUndefined:
        return "–"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
