"""Inputs that follow from the fields of a run: what a field is called, what it takes and what it says of itself stand in `planner.run`.

A method, an optimizer or a model of another kind needs no edit here: which fields it reads is its own, and so is their description.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic.fields import FieldInfo

from planner.catalog import find_model, load_config
from planner.errors import PlanError
from planner.run import (
    Batch,
    Checkpoints,
    Currency,
    Hardware,
    Method,
    OptimizerOptions,
    Owned,
    Parallel,
    PriceChoice,
    Run,
    WholeRun,
    plain_loader,
)
from planner.workload.architecture import Architecture
from planner.workload.families import read_config

Kind = Literal["integer", "number", "flag", "choice", "text"]
AUTO: Final = "auto"


@dataclass(frozen=True)
class Entry:
    """One input. key: of the widget and in the address · path: in a run · low, high: bounds of a number · options: of a choice ·
    forms: what a text may be: one value, many with commas between, a mapping · whole: the values are numbers."""

    key: str
    path: tuple[str, ...]
    kind: Kind
    label: str
    help: str
    default: Any = None
    low: float = 0
    high: float = 1e18
    options: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    whole: bool = False

    def read(self, value: Any) -> Any:
        """The field's value from the widget's; None where it is left out."""
        if value is None or value == self.default or value == AUTO or (isinstance(value, str) and not value.strip()):
            return None
        return _read(self, value.strip()) if self.kind == "text" else value

    def shown(self, value: Any) -> Any:
        """The widget's value from the field's; the default where the widget cannot say it."""
        if value is None:
            return self.default
        if self.kind != "text":
            return value if self.kind != "choice" or value in self.options else self.default
        wanted, text = list(value) if isinstance(value, tuple) else value, _written(value)
        return next((said for said in (text, f"{text},") if self.read(said) == wanted), self.default)


def _read(entry: Entry, text: str) -> Any:
    if "mapping" in entry.forms:
        try:
            found = yaml.load(text if text.startswith("{") else "{" + text + "}", Loader=plain_loader())
        except (yaml.YAMLError, ValueError, RecursionError):
            found = text
        return found
    if "many" not in entry.forms:
        return text == "true" if text in ("true", "false") else text
    parts: list[Any] = [part.strip() for part in text.removesuffix(",").split(",")]
    if entry.whole:
        parts = [int(part) if part.isdecimal() else part for part in parts]
    return parts[0] if len(parts) == 1 and "one" in entry.forms and not text.endswith(",") else parts


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _parts(annotation: Any) -> Iterator[Any]:
    """The types that a field's annotation joins, with the bounds that stand beside them."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _parts(part)
    elif origin is Annotated:
        kind, *marks = get_args(annotation)
        yield from _parts(kind)
        for mark in marks:
            yield from getattr(mark, "metadata", (mark,))
    elif annotation is not type(None):
        yield annotation


_SPELLED: Final = {"dora": "DoRA", "rslora": "rsLoRA", "lora": "LoRA", "dtype": "type"}


def entry(key: str, path: tuple[str, ...], field: FieldInfo, label: str = "") -> Entry:
    """The input of a field, from its type, bounds, default and description."""
    parts = [*_parts(field.annotation), *field.metadata]
    kinds = [part for part in parts if isinstance(part, type) or get_origin(part) is not None]
    texts = [k for k in kinds if k is str or get_origin(k) in (tuple, dict)]
    words = label or " ".join(_SPELLED.get(word, word) for word in path[-1].split("_"))
    words = words[:1].upper() + words[1:] if words[:1].islower() and words[1:2].islower() else words
    said = (key, path), (words, field.description or "")
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    if texts:
        inside = [a for k in texts if get_origin(k) is tuple for a in get_args(k)]
        forms = {"many": bool(inside), "mapping": any(get_origin(k) is dict for k in texts), "one": str in kinds or int in kinds}
        whole = bool(inside) and not any(a is str or get_origin(a) is Literal for a in inside)
        return Entry(*said[0], "text", *said[1], default or "", forms=tuple(f for f, has in forms.items() if has), whole=whole)
    if literal := next((k for k in kinds if get_origin(k) is Literal), None):
        return Entry(*said[0], "choice", *said[1], default or AUTO, options=get_args(literal))
    if bool in kinds:
        return Entry(*said[0], "flag", *said[1], bool(default))
    low = next((p.ge if isinstance(p, annotated_types.Ge) else p.gt for p in parts if isinstance(p, annotated_types.Ge | annotated_types.Gt)), 0)
    high = next((p.le if isinstance(p, annotated_types.Le) else p.lt for p in parts if isinstance(p, annotated_types.Le | annotated_types.Lt)), 10**9)
    kind: Kind = "integer" if int in kinds else "number"
    return Entry(*said[0], kind, *said[1], default, float(str(low)), min(float(str(high)), 1e15))


STARTS: Final[dict[str, int]] = {"rank": 16, "initial_rank": 24, "virtual_tokens": 20, "bottleneck": 64, "last": 4}
"""What an input of a method begins with where leaving it out would not make a plan that anyone has in mind."""

METHOD: Final = {
    name: entry(name, ("method", name), field) for name, field in Method.model_fields.items() if name not in ("name", "targets")
}
"""Fields of methods; the targets have an input of their own."""


def of_method(fields: tuple[str, ...], values: dict[str, Any]) -> dict[str, Any]:
    """Method fields from widget values. The first field of a method, once given, takes the place of what others begin with."""
    first = fields[0] if fields else ""
    replaced = first not in STARTS and first in METHOD and METHOD[first].read(values.get(first)) is not None
    found = {}
    for name in fields:
        if name in METHOD and not (replaced and values.get(name) == STARTS.get(name, ...)):
            value = METHOD[name].read(values.get(name))
            if value is not None:
                found[name] = value
    return found


def _of(part: type[Any], place: str, **keys: str) -> dict[str, Entry]:
    made = {}
    for key, said in keys.items():
        name, _, label = said.partition("|")
        path = (*place.split("."), name) if place else (name,)
        made[key] = entry(key, path, part.model_fields[name], label)
    return made


RUN: Final[dict[str, Entry]] = {
    **_of(Parallel, "parallel", cp="cp|Context parallel", ep="ep|Expert parallel"),
    **_of(Parallel, "parallel", virtual_pp="virtual_pp|Chunks per stage", sequence_parallel="sequence_parallel"),
    **_of(Parallel, "parallel", cp_kind="cp_kind|Kind of context parallel"),
    **_of(Parallel, "parallel", expert_capacity="expert_capacity|Capacity factor", expert_imbalance="expert_imbalance|Imbalance of experts"),
    **_of(Parallel, "parallel", schedule="schedule|Pipeline schedule", stages="stages|Layers of each stage"),
    **_of(Run, "", offload="offload|Moved to host memory", head="head|Output head"),
    **_of(Checkpoints, "checkpoints", every="every|One block in", keep="keep|Kept all the same"),
    **_of(OptimizerOptions, "optimizer_options", optimizer_rank="rank|Rank of the projection"),
    **_of(OptimizerOptions, "optimizer_options", optimizer_every="every|Steps between renewals"),
    **_of(Batch, "batch", target_len="target_len|Target length", images="images|Images per sequence"),
    **_of(Batch, "batch", image_size="image_size|Image size [pixel]", audio_seconds="audio_seconds|Recording [s]"),
    **_of(Hardware, "hardware", network_kind="network|Kind of network", host_memory="host_memory_gib|Host memory [GiB]"),
    **_of(WholeRun, "whole_run", startup="startup_s|Start-up [s]", warmup="warmup_s|Warm-up [s]"),
    **_of(WholeRun, "whole_run", eval_every="eval_every|Evaluate every [steps]", eval_tokens="eval_tokens|Tokens evaluated"),
    **_of(WholeRun, "whole_run", loader="loader_tokens_per_s|Loader [token/s]"),
    **_of(WholeRun, "whole_run", checkpoint_every="checkpoint_every|Checkpoint every [steps]", checkpoint_mode="checkpoint_mode|Checkpoint"),
    **_of(WholeRun, "whole_run", storage_speed="storage_gb_per_s|Storage [GB/s]", restart="restart_s|Restart [s]"),
    **_of(WholeRun, "whole_run", failures="failures_per_gpu_day|Failures per GPU and day"),
    **_of(WholeRun, "whole_run", interruptions="interruptions_per_machine_day|Taken back a day"),
    **_of(PriceChoice, "price", reserved_days="reserved_days|Reserved [days]"),
    **_of(PriceChoice, "price", storage_tb="storage_tb|Stored [TB]", storage_price="usd_per_tb_month|Storage, $ per TB a month"),
    **_of(PriceChoice, "price", egress_tb="egress_tb|Egress [TB]", egress_price="usd_per_tb_egress|Egress, $ per TB"),
    **_of(Owned, "price.own", purchase="purchase_usd|Own hardware: $ per GPU", lifetime="lifetime_years|Lifetime [years]"),
    **_of(Owned, "price.own", utilization="utilization|Utilization", kwh_price="usd_per_kwh|Electricity, $ per kWh"),
    **_of(Owned, "price.own", upkeep="usd_per_gpu_year|Upkeep, $ a year"),
    **_of(Currency, "price.currency", currency="code|Currency", per_usd="per_usd|Of it for one $"),
}
"""Further fields of a run that have an input, by the key of its widget."""

ENTRIES: Final = {**METHOD, **RUN}
BATCH: Final = ("target_len", "images", "image_size", "audio_seconds")


def starting(key: str) -> Any:
    """What the input holds when nothing is said."""
    return STARTS.get(key, ENTRIES[key].default)


def at(run: Run, path: tuple[str, ...]) -> Any:
    """The value of a run's field."""
    here: Any = run
    for name in path:
        here = getattr(here, name)
    return here


def batch_fields(arch: Architecture) -> frozenset[str]:
    """Fields of the batch that a model reads: those of what stands at the front of its stacks, or tokens."""
    read = {name for stack in arch.stacks for name in (("seq_len",) if stack.front is None else stack.front.fields)}
    return frozenset(read)


@lru_cache(maxsize=64)
def _architecture(text: str) -> Architecture | None:
    try:
        return read_config(json.loads(text))
    except PlanError:
        return None


def architecture(name: str, config: dict[str, Any] | None) -> Architecture | None:
    """What the chosen model is made of, None while that cannot be said; the plan then says why."""
    try:
        known = dict(find_model(name).config) if config is None else load_config(config)
        return _architecture(json.dumps(known, sort_keys=True))
    except (PlanError, TypeError, ValueError):
        return None
