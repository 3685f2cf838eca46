"""What is fuzzed: each target makes one case from a random generator and says what is wrong with the answer, if anything is."""

from __future__ import annotations

import base64
import json
import math
import random
import string
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from planner import estimate, units
from planner.catalog import accelerators, models
from planner.device import default_profile
from planner.device.profile import DeviceProfile
from planner.errors import PlanError
from planner.lock import lock_of, lock_text
from planner.lock.pins import digest
from planner.run import Run, parse_run
from planner.ui import state
from planner.ui.address import from_address
from planner.ui.handing import read
from planner.ui.link import decode, encode
from planner.workload.methods import METHODS
from planner.workload.optimizers import OPTIMIZERS
from planner.workload.stacks import STACKS
from tests.fuzz import logs
from tests.fuzz.values import JUNK, junk, mutated, value

Target = Callable[[random.Random], tuple[Any, str | None]]


@cache
def _schema() -> dict[str, Any]:
    return Run.model_json_schema()


@cache
def _names() -> dict[str, list[str]]:
    return {"model": [entry.id for entry in models()], "gpu": [part.name for part in accelerators()]}


def numbers(document: Any) -> Iterator[float]:
    """Every number of a document."""
    if isinstance(document, dict):
        for one in document.values():
            yield from numbers(one)
    elif isinstance(document, list | tuple):
        for one in document:
            yield from numbers(one)
    elif isinstance(document, int | float):
        yield document


def said(error: PlanError) -> str | None:
    """What is wrong with an error: it names a field, what is wrong and a fix, in one line."""
    text = str(error)
    if not error.field or not error.problem or not error.fix or "\n" in text or len(text) > 4000:
        return f"not one clear line: {text[:200]!r}"
    return None


def answer(run: Run) -> str | None:
    """What is wrong with the estimate of a run."""
    try:
        found = estimate(run)
    except PlanError as error:
        return said(error)
    document = found.model_dump(mode="json")
    json.dumps(document, allow_nan=False)
    if not all(math.isfinite(number) for number in numbers(document)):
        return "a number is not finite"
    if found.step_time_s is not None and found.step_time_interval_s is not None:
        low, high = found.step_time_interval_s
        if not 0 < low <= high or found.step_time_s <= 0:
            return f"step time {found.step_time_s} in {low} to {high}"
    low, high = found.peak_memory_interval_bytes
    if not 0 < low <= high or found.peak_memory_bytes <= 0:
        return f"peak memory {found.peak_memory_bytes} in {low} to {high}"
    if found.trainable_parameters < 0 or found.parameters <= 0:
        return f"{found.trainable_parameters} of {found.parameters} parameters"
    return None


def runs(r: random.Random) -> tuple[Any, str | None]:
    """Run files: fields at random over a model and an accelerator of the catalogue."""
    mapping = value(r, _schema(), _schema(), r.choice((0.0, 0.0, 0.01, 0.1)))
    if isinstance(mapping, dict):
        mapping["model"] = r.choice(_names()["model"]) if r.random() < 0.97 else junk(r)
        hardware = mapping.setdefault("hardware", {})
        if isinstance(hardware, dict) and r.random() < 0.97:
            hardware["gpu"] = r.choice(_names()["gpu"])
            if r.random() < 0.8:
                hardware.pop("groups", None)
                hardware["gpus"] = r.choice((1, 1, 2, 4, 8, 16, 64, 256, 1024))
        method = mapping.get("method")
        if isinstance(method, dict) and r.random() < 0.95:
            method["name"] = r.choice(list(METHODS))
            if r.random() < 0.8:
                kept = {"name", *METHODS[method["name"]].fields}
                mapping["method"] = {key: one for key, one in method.items() if key in kept}
        for key, known in (("optimizer", OPTIMIZERS), ("stack", STACKS)):
            if key in mapping and r.random() < 0.95:
                mapping[key] = r.choice(list(known))
        if r.random() < 0.7:
            mapping.pop("parallel", None)
        if isinstance(mapping.get("batch"), dict) and r.random() < 0.8:
            mapping["batch"] = {"micro": r.choice((1, 2, 8)), "seq_len": r.choice((1, 128, 512, 2048))}
    try:
        run = parse_run(mapping)
    except PlanError as error:
        return mapping, said(error)
    return mapping, answer(run)


def configs(r: random.Random) -> tuple[Any, str | None]:
    """Configurations of the catalogue with values removed, scaled or replaced."""
    config = mutated(r, r.choice(models()).config, r.choice((1, 1, 2, 3, 8)))
    mapping = {"model": config, "method": {"name": r.choice(("full", "lora", "bitfit"))}, "hardware": {"gpu": "H100 SXM 80GB"}}
    try:
        run = parse_run(mapping)
    except PlanError as error:
        return mapping, said(error)
    return mapping, answer(run)


def links(r: random.Random) -> tuple[Any, str | None]:
    """Full links, whole and damaged: the run comes back, or a remark says what of it could not be read."""
    run = parse_run({"model": r.choice(_names()["model"]), "hardware": {"gpu": r.choice(_names()["gpu"])}, "batch": {"micro": r.randrange(1, 9)}})
    text = encode(run)
    if r.random() < 0.3:
        found, remarks = decode(text)
        return text, None if found == run and not remarks else "a link does not lead back"
    if r.random() < 0.5:
        document = mutated(r, json.loads(run.model_dump_json()), r.randrange(1, 6))
        try:
            text = base64.urlsafe_b64encode(json.dumps(document).encode("utf-8", "surrogatepass")).decode()
        except (TypeError, ValueError):
            return document, None
    else:
        letters = list(text)
        for _ in range(r.randrange(1, 20)):
            letters[r.randrange(len(letters))] = r.choice(string.printable)
        text = "".join(letters)[: r.randrange(len(letters) + 1)]
    found, remarks = decode(text, r.choice((None, "1", "99", "x")))
    return text, None if found is not None or remarks else "nothing was read, and nothing said"


@cache
def _lock_text() -> str:
    run = parse_run({"model": "gpt2", "hardware": {"gpu": "L40S"}, "batch": {"micro": 2}, "data": {"tokens": "1M"}})
    return lock_text(lock_of(run, estimate(run)))


def locks(r: random.Random) -> tuple[Any, str | None]:
    """Locks, and the reports and links that hold them, damaged: a plan with what has changed, or one clear line."""
    document = mutated(r, json.loads(_lock_text()), r.choice((1, 2, 4)))
    shape = r.random()
    try:
        if isinstance(document, dict) and r.random() < 0.7:
            document["sha256"] = digest({key: value for key, value in document.items() if key != "sha256"})  # who changes a file can hash it too
        text = json.dumps({"schema_version": 2, "lock": document} if shape < 0.2 else document)
    except (TypeError, ValueError):
        return document, None
    if shape > 0.9:
        text = text[: r.randrange(len(text))]
    try:
        run, moved = read(text.encode("utf-8", "surrogatepass"))
    except PlanError as error:
        return text, said(error)
    wrong = next((line for line in moved if "\n" in line or len(line) > 1000), None)
    return text, None if isinstance(run, Run) and wrong is None else f"not a clear line: {wrong}"


def addresses(r: random.Random) -> tuple[Any, str | None]:
    """Addresses of the app: every value is taken or remarked on, and what is taken makes a run or one clear line."""
    known = list(state.defaults())
    address = {r.choice(known): str(r.choice((*JUNK, *_names()["gpu"][:5], "LoRA", "8", "2048", "1.5B"))) for _ in range(r.randrange(1, 8))}
    fixed, remarks = from_address(address)
    if len(fixed) < len(address) and not remarks:
        return address, "a value was dropped without a remark"
    values = {key: text for key, text in fixed.items() if isinstance(state.defaults()[key], str) and key not in ("more",)}
    try:
        parse_run(state.run_mapping(state.defaults() | values))
    except PlanError as error:
        return address, said(error)
    return address, None


def profiles(r: random.Random) -> tuple[Any, str | None]:
    """Device profiles with values removed, scaled or replaced."""
    document = mutated(r, _profile(), r.choice((1, 2, 4)))
    try:
        profile = DeviceProfile.model_validate(document)
    except ValueError:
        return document, None
    run = Run.model_validate({"model": "gpt2"})
    try:
        found = estimate(run, profile)
    except PlanError as error:
        return document, said(error)
    return document, None if all(math.isfinite(n) for n in numbers(found.model_dump(mode="json"))) else "a number is not finite"


@cache
def _profile_text() -> str:
    return default_profile(next(part for part in accelerators() if part.name == "L40S")).model_dump_json()


def _profile() -> Any:
    return json.loads(_profile_text())


def quantities(r: random.Random) -> tuple[Any, str | None]:
    """Quantities as people write them, and not."""
    letters = "0123456789.,eE+-kKMGTBib %$×xhdms/_ \u00a0\u202f" if r.random() < 0.8 else string.printable
    text: Any = "".join(r.choice(letters) for _ in range(r.randrange(12))) if r.random() < 0.95 else junk(r)
    for parse in (units.parse_count, units.parse_bytes, units.parse_duration, units.parse_usd, units.parse_number):
        try:
            found = parse(text, "field")
        except PlanError as error:
            if (wrong := said(error)) is not None:
                return text, wrong
        else:
            if not math.isfinite(found):
                return text, f"{parse.__name__} says {found}"
    return text, None


TARGETS: dict[str, Target] = {
    "runs": runs, "configs": configs, "links": links, "addresses": addresses, "profiles": profiles, "locks": locks, "quantities": quantities,
    **logs.TARGETS,
}  # fmt: skip
