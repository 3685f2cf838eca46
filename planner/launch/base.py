"""What a launch file is written from, what it must say, and the registry of formats.

No format can say everything that a plan holds. So a plan is first listed as aspects, one sentence each; a format marks those it says, and
every other one is named in the file's head and in `Launch.missing`. An aspect that a format's author never thought of is listed, not lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from planner import __version__, units
from planner.errors import PlanError, shorten
from planner.estimate.resolve import model_config
from planner.estimate.result import Estimate
from planner.launch.aspects import ALL_ASPECTS, aspects
from planner.registry import enter
from planner.run import Run


@dataclass(frozen=True, slots=True)
class Plan:
    """A resolved run with what launch files ask of it.

    model: the Hugging Face id, empty where the run holds a configuration of its own · config: the model's configuration ·
    steps: optimizer steps, None without an amount of data · per_machine: accelerators that one machine gives to the run.
    """

    run: Run
    model: str
    config: Mapping[str, Any]
    name: str
    steps: int | None
    expected: str
    aspects: Mapping[str, str]

    @property
    def gpus(self) -> int:
        return self.run.hardware.gpus

    @property
    def per_machine(self) -> int:
        return min(self.gpus, self.run.hardware.gpus_per_node or self.gpus)

    @property
    def machines(self) -> int:
        return -(-self.gpus // self.per_machine)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a format writes: text by file name (the first is the main one), the aspects it says, remarks, and the shell command."""

    files: Mapping[str, str]
    says: frozenset[str]
    command: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """One file to write."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Launch:
    """A plan in one format. missing: what the format cannot express, a sentence each · command: what starts the run."""

    format: str
    files: tuple[File, ...]
    command: str
    missing: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Format:
    """A registered format. reference: the code whose settings it writes."""

    name: str
    label: str
    position: int
    reference: str
    write: Callable[[Plan], Draft]


FORMATS: dict[str, Format] = {}
"""Registered formats by name, in the order of their positions."""


def register(
    name: str, *, label: str, position: int, reference: str
) -> Callable[[Callable[[Plan], Draft]], Callable[[Plan], Draft]]:
    """Decorator that adds a format; a second one of the same name is a mistake."""

    def add(write: Callable[[Plan], Draft]) -> Callable[[Plan], Draft]:
        enter(FORMATS, Format(name, label, position, reference, write), "launch format")
        return write

    return add


def find_format(name: object) -> Format:
    """The format of a name. Raises `PlanError` that names those there are."""
    found = FORMATS.get(str(name).lower())
    if found is None:
        raise PlanError("format", name, "is no launch format", f"Use one of {', '.join(FORMATS)}.")
    return found


def plan_of(estimate: Estimate) -> Plan:
    """What launch files ask of an estimate."""
    run = estimate.run
    name, config = model_config(run.model)
    model = run.model if isinstance(run.model, str) and not run.model.strip().startswith("{") else ""
    own = not model or model.endswith(".json") or (name != config.get("_name_or_path", name) and "/" not in name)
    expected = [f"{units.format_bytes(estimate.peak_reserved_bytes)} of memory on each accelerator"]
    if estimate.step_time_s is not None:
        expected.insert(0, f"{units.format_seconds(estimate.step_time_s)} a step")
    if estimate.total_time_s is not None:
        expected.append(f"{units.format_seconds(estimate.total_time_s)} in all")
    return Plan(
        run=run,
        model="" if own else name,
        config=config,
        name=name,
        steps=estimate.details.get("steps"),
        expected=", ".join(expected),
        aspects=aspects(run, name),
    )


def launch(estimate: Estimate, format: str) -> Launch:
    """An estimate's run as files that start it.

    Arguments
    ---------
    estimate: what was planned; its run has every default filled in.
    format: name of a registered format.

    Errors
    ------
    PlanError: no such format, or a plan that the format cannot start at all.
    """
    found = find_format(format)
    plan = plan_of(estimate)
    draft = found.write(plan)
    unknown = draft.says - set(ALL_ASPECTS)
    if unknown:
        raise RuntimeError(f"launch format {found.name} says unknown aspects {sorted(unknown)}")
    missing = tuple(text for name, text in plan.aspects.items() if name not in draft.says)
    files = tuple(File(name, _headed(name, text, plan, found, draft, missing)) for name, text in draft.files.items())
    return Launch(found.name, files, draft.command, missing, draft.notes)


def _headed(name: str, text: str, plan: Plan, form: Format, draft: Draft, missing: Iterable[str]) -> str:
    """The file with a head that says what it is, what to expect, how to start it, and what it cannot say."""
    lines = [
        f"{plan.name}: written by Plumbline {__version__} for {form.label}.",
        f"Expected: {plan.expected}.",
        f"Start: {draft.command}",
    ]
    left = [f"- {each}" for each in missing]
    lines += [*draft.notes, *(["Not expressed in this format, see to it yourself:", *left] if left else ["Everything the plan says is expressed."])]
    lines = [plain(line) for line in lines]
    if name.endswith(".json"):
        content = {"_comment": lines, **json.loads(text)}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    head = "\n".join(f"# {line}" for line in lines) + "\n"
    if text.startswith("#!"):
        first, _, rest = text.partition("\n")
        hashes = "".join(line + "\n" for line in rest.splitlines() if line.startswith("#SBATCH"))
        body = "".join(line + "\n" for line in rest.splitlines() if not line.startswith("#SBATCH"))
        return f"{first}\n{hashes}{head}{body}"
    return head + text


def plain(text: str) -> str:
    """One line of printable characters: a name from outside must not end a comment."""
    return "".join(char if char.isprintable() else " " for char in shorten(text, 1000))


def check_degrees(plan: Plan, form: str) -> None:
    """Refuse a model that is divided: the format knows data-parallel ranks alone."""
    for degree in ("tp", "pp", "cp", "ep"):
        if getattr(plan.run.parallel, degree) > 1:
            raise impossible(f"parallel.{degree}", getattr(plan.run.parallel, degree), form, "Use torchtitan or megatron.")


def impossible(field_name: str, value: object, form: str, fix: str) -> PlanError:
    """A plan that a format cannot start at all."""
    return PlanError(field_name, value, f"cannot be started from {form}", fix)
