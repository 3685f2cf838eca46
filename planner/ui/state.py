"""What the sidebar holds, as a run file, and back: widget values ↔ run. No Streamlit here, so that all of it is tested as plain functions.

The value of every widget has a short key, which is also its name in the address bar. A run may say more than the widgets can show; what is left goes
to the text field `more` as dotted paths, so that nothing of a link is lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from planner import units
from planner.catalog import Accelerator, find_accelerator
from planner.errors import PlanError
from planner.run import PRECISIONS, Run, parse_run
from planner.ui import fields
from planner.workload.methods import METHODS

LINK_VERSION: Final = 1
"""Raised when a field changes its meaning; the defaults below may then change too."""
AUTO: Final = fields.AUTO
MEDIAN, WORLD = "median", "World"
CATALOG, CONFIG = "catalog", "config.json"

DEFAULTS: Final[dict[str, Any]] = {
    "source": CATALOG,
    "model": "meta-llama/Llama-3.1-8B",
    "method": "lora",
    "targets": "all-linear",
    "own_targets": AUTO,
    "gpu": "H100 SXM 80GB",
    "gpus": 1,
    "data": "10M",
    "task": "sft",
    "precision": AUTO,
    "optimizer": "adamw",
    "seq": AUTO,
    "micro": 1,
    "accumulation": 16,
    "checkpointing": "none",
    "attention": AUTO,
    "stack": "hf",
    "sharding": AUTO,
    "tp": 1,
    "pp": 1,
    "per_node": None,
    "network": None,
    "price": None,
    "provider": MEDIAN,
    "spot": False,
    "country": WORLD,
    "pue": None,
    "more": "",
}
"""The plan that opens. A value equal to its default does not stand in the address, so these change only with `LINK_VERSION`."""

GPU_EDITS: Final = {
    "gpu_memory": ("memory_gib", "Memory [GiB]", 1.0),
    "gpu_bandwidth": ("memory_bandwidth", "Memory bandwidth [GB/s]", units.GB),
    "gpu_bf16": ("bf16", "Dense bf16 peak [TFLOP/s]", units.TERA),
    "gpu_power": ("tdp_w", "Board power [W]", 1.0),
}
"""Widget key: field of the accelerator, label with the unit of the widget, that unit in the field's unit."""

MODEL_EDITS: Final = {
    "model_layers": ("Layers", ("num_hidden_layers", "n_layer", "num_layers", "n_layers")),
    "model_hidden": ("Hidden size", ("hidden_size", "n_embd", "d_model")),
    "model_ffn": ("Feed-forward size", ("intermediate_size", "n_inner", "ffn_dim")),
    "model_heads": ("Attention heads", ("num_attention_heads", "n_head", "n_heads")),
    "model_kv": ("Key-value heads", ("num_key_value_heads",)),
    "model_vocab": ("Vocabulary", ("vocab_size",)),
}
"""Widget key: label, names of the field in the configurations of different models."""

_EPOCHS = re.compile(r"(?P<epochs>.+?)\s*epochs?\s*(?:of|x|×)\s+(?P<rest>.+)", re.IGNORECASE)
_SAMPLES = re.compile(r"(?P<samples>.+?)\s*samples?(?:\s*(?:of|x|×)\s*(?P<mean>.+?)(?:\s*tokens?)?)?", re.IGNORECASE)
_NAMES = re.compile(r"[\w.]+(?:\s*,\s*[\w.]+)*")


def defaults() -> dict[str, Any]:
    """Values of all widgets when nothing is said."""
    begun = {key: fields.starting(key) for key in fields.ENTRIES}
    return {**DEFAULTS, **begun, **dict.fromkeys((*GPU_EDITS, *MODEL_EDITS))}


def run_mapping(values: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The run file that the widgets say; fields left at "auto" are left out, for the engine to choose and to show.

    Arguments
    ---------
    values: value by widget key; missing ones take their default.
    config: the model's configuration where it is not the catalogue's.

    Errors
    ------
    PlanError: text that is not what its field needs.
    """
    v = {**defaults(), **values}
    run: dict[str, Any] = {
        "model": dict(config) if config is not None else _model(v),
        "method": _method(v),
        "hardware": _hardware(v),
        "batch": {"micro": v["micro"], "accumulation": v["accumulation"]},
    }
    if v["seq"] not in (None, "", AUTO):
        run["batch"]["seq_len"] = units.parse_count(v["seq"], "batch.seq_len")
    if v["task"] != "sft":
        run["task"] = v["task"]
    for key, field in (("precision", "precision"), ("attention", "attention")):
        if v[key] != AUTO:
            run[field] = v[key]
    for key, field in (("optimizer", "optimizer"), ("checkpointing", "activation_checkpointing"), ("stack", "stack")):
        if v[key] != Run.model_fields[field].default:
            run[field] = v[key]
    parallel = {key: v[key] for key in ("tp", "pp") if v[key] != 1}
    if v["sharding"] != AUTO:
        parallel["sharding"] = v["sharding"]
    price = {
        "usd_per_gpu_hour": v["price"],
        "provider": None if v["provider"] == MEDIAN else v["provider"],
        "spot": v["spot"] or None,
    }
    energy = {"country": None if v["country"] == WORLD else v["country"], "pue": v["pue"]}
    for name, part in (("parallel", parallel), ("price", price), ("energy", energy)):
        if given := {field: value for field, value in part.items() if value is not None}:
            run[name] = given
    if data := parse_data(v["data"]):
        run["data"] = data
    for key, entry in fields.RUN.items():
        if (value := entry.read(v[key])) is not None:
            _put(run, ".".join(entry.path), value)
    for path, value in parse_more(v["more"]).items():
        _put(run, path, value)
    return run


def parse_data(text: str | None) -> dict[str, Any] | None:
    """Training data from what people write: "10M", "3 epochs of 80M", "50K samples of 512 tokens"; None when nothing stands there.

    Errors
    ------
    PlanError: not an amount of data.
    """
    if not text or not text.strip():
        return None
    text = text.strip()
    data: dict[str, Any] = {}
    if epochs := _EPOCHS.fullmatch(text):
        text = epochs["rest"]
        data["epochs"] = units.parse_number(epochs["epochs"], "data.epochs", above_zero=True)
    match = _SAMPLES.fullmatch(text)
    if match is None:
        return {"tokens": units.parse_count(text, "data.tokens"), **data}
    if match["mean"]:
        data["mean_tokens"] = units.parse_number(match["mean"], "data.mean_tokens", above_zero=True)
    return {"samples": units.parse_count(match["samples"], "data.samples"), **data}


def parse_more(text: str | None) -> dict[str, Any]:
    """Further fields from "method.alpha: 32, energy.pue: 1.2" as dotted path and value.

    Errors
    ------
    PlanError: not a list of fields.
    """
    if not text or not text.strip():
        return {}
    import yaml

    from planner.run import plain_loader

    fix = "Write fields as in a run file, for example method.alpha: 32, energy.pue: 1.2."
    try:
        found = yaml.load(
            "{" + text.strip().strip("{}") + "}" if not text.strip().startswith("{") else text, Loader=plain_loader()
        )
    except (yaml.YAMLError, ValueError, RecursionError):
        raise PlanError("more", text, "is not a list of fields", fix) from None
    if not isinstance(found, dict) or not all(isinstance(path, str) and (":" in text) for path in found):
        raise PlanError("more", text, "is not a list of fields", fix)
    return found


def values_of(run: Run) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Widget values that say this run, and the model's configuration where the run holds one. What no widget can say stands in `more`."""
    values, config = _plain_values(run)
    try:
        said: Run | None = parse_run(run_mapping(values, config))
    except PlanError:
        said = None  # the run's own fields will say it all
    wanted, have = (
        dict(_leaves(run.model_dump(mode="json"))),
        dict(_leaves(said.model_dump(mode="json"))) if said is not None else {},
    )
    if run.hardware.gpu is None:
        del wanted["hardware.gpu"]  # the engine's default, which the widget names
    rest = {path: value for path, value in wanted.items() if path != "model" and have.get(path) != value}
    values["more"] = ", ".join(f"{path}: {json.dumps(value, ensure_ascii=False)}" for path, value in rest.items())
    return values, config


def config_text(config: Mapping[str, Any]) -> str:
    """A configuration as the text that the config.json field shows."""
    return json.dumps(config, indent=2, ensure_ascii=False)


def _model(v: Mapping[str, Any]) -> Any:
    name = str(v["model"] or "").strip()
    edits = {key: v[key] for key in MODEL_EDITS if v.get(key) is not None}
    if not edits:
        return name
    from planner.catalog import find_model

    config = find_model(name).config
    return {"base": name, **{edit_field(config, key): value for key, value in edits.items()}}


def edit_field(config: Mapping[str, Any], key: str) -> str:
    """The configuration's own name of an editable size; raises `PlanError` where it has none."""
    label, names = MODEL_EDITS[key]
    for name in names:
        if name in config:
            return name
    raise PlanError(f"model.{names[0]}", label, "is not a field of this model's configuration", "Leave it empty.")


def targets_key(name: str) -> str:
    """The input of a method's targets: all linear layers to begin with, or what the method takes itself where they are all that it asks for."""
    kind = METHODS.get(name)
    return "own_targets" if kind is not None and kind.fields[:1] == ("targets",) else "targets"


def _method(v: Mapping[str, Any]) -> dict[str, Any]:
    name = v["method"]
    kind = METHODS.get(name)
    method: dict[str, Any] = {"name": name}
    read = kind.fields if kind is not None else ()
    method |= fields.of_method(read, dict(v))
    targets = v[targets_key(name)]
    if "targets" in read and targets and targets != AUTO:
        text = str(targets).strip()
        method["targets"] = (
            [part.strip() for part in text.split(",")] if text != "all-linear" and _NAMES.fullmatch(text) else text
        )
    return method


def _hardware(v: Mapping[str, Any]) -> dict[str, Any]:
    edits: dict[str, Any] = {}
    for key, (field, _, scale) in GPU_EDITS.items():
        if v.get(key) is None:
            continue
        if field == "bf16":
            edits["peak_flops"] = {"bf16": v[key] * scale}
        else:
            edits[field] = v[key] * scale
    hardware: dict[str, Any] = {"gpu": {"base": v["gpu"], **edits} if edits else v["gpu"], "gpus": v["gpus"]}
    for key, field in (("per_node", "gpus_per_node"), ("network", "network_gbps")):
        if v[key] is not None:
            hardware[field] = v[key]
    return hardware


def _plain_values(run: Run) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """As far as widgets can say it."""
    values = defaults() | {
        "accumulation": run.batch.accumulation,
        "micro": run.batch.micro,
        "task": run.task,
        "data": _data_text(run),
    }
    config: dict[str, Any] | None = None
    if isinstance(run.model, str):
        values["model"] = run.model
    elif isinstance(run.model.get("base"), str) and _as_edits(run.model) is not None:
        values |= {"model": run.model["base"], **(_as_edits(run.model) or {})}
    else:
        config, values["source"] = deepcopy(run.model), CONFIG
    method = run.method
    values["method"] = method.name
    values |= {key: e.shown(given) for key, e in fields.ENTRIES.items() if (given := fields.at(run, e.path)) is not None}
    targets = ", ".join(method.targets) if isinstance(method.targets, tuple) else method.targets or AUTO
    values[targets_key(method.name)] = targets
    gpu = run.hardware.gpu
    if isinstance(gpu, dict):
        values["gpu"] = str(gpu.get("base", ""))
        values |= _gpu_values(gpu)
    else:
        values["gpu"] = gpu or DEFAULTS["gpu"]
    values |= {"gpus": run.hardware.gpus, "per_node": run.hardware.gpus_per_node, "network": run.hardware.network_gbps}
    values["precision"] = _precision_name(run)
    values |= {
        "optimizer": run.optimizer,
        "stack": run.stack,
        "checkpointing": run.activation_checkpointing,
        "attention": run.attention or AUTO,
    }
    values["seq"] = str(run.batch.seq_len) if run.batch.seq_len is not None else AUTO
    values |= {"sharding": run.parallel.sharding or AUTO, "tp": run.parallel.tp, "pp": run.parallel.pp}
    values |= {"price": run.price.usd_per_gpu_hour, "provider": run.price.provider or MEDIAN, "spot": run.price.spot}
    values |= {"country": run.energy.country or WORLD, "pue": run.energy.pue}
    return values, config


def _as_edits(model: Mapping[str, Any]) -> dict[str, Any] | None:
    """The edits of `{base: …}` as widget values, or None when a widget is missing for one of them."""
    by_name = {name: key for key, (_, names) in MODEL_EDITS.items() for name in names}
    edits = {name: value for name, value in model.items() if name != "base"}
    if not all(
        name in by_name and isinstance(value, int) and not isinstance(value, bool) for name, value in edits.items()
    ):
        return None
    return {by_name[name]: value for name, value in edits.items()}


def _gpu_values(gpu: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, (field, _, scale) in GPU_EDITS.items():
        peaks = gpu.get("peak_flops")
        value = (peaks.get("bf16") if isinstance(peaks, dict) else None) if field == "bf16" else gpu.get(field)
        if isinstance(value, int | float) and not isinstance(value, bool):
            values[key] = value / scale
    return values


def _precision_name(run: Run) -> str:
    for name, formats in PRECISIONS.items():
        if run.precision == parse_run({"model": "x", "precision": formats}).precision:
            return name
    return AUTO


def _data_text(run: Run) -> str:
    data = run.data
    if data is None:
        return ""
    times = f"{data.epochs:g} epochs of " if data.epochs != 1 else ""
    if data.tokens is not None:
        return times + _exact(data.tokens)
    assert data.samples is not None
    return f"{times}{_exact(data.samples)} samples" + (
        f" of {data.mean_tokens:g} tokens" if data.mean_tokens is not None else ""
    )


def _exact(count: int) -> str:
    """The shortest text that reads back as exactly this count."""
    for suffix, size in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3)):
        text = f"{count / size:g}{suffix}"
        if count >= size and units.parse_count(text, "data.tokens") == count:
            return text
    return str(count)


def _leaves(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in mapping.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and path not in ("model", "hardware.gpu"):
            yield from _leaves(value, path + ".")
        else:
            yield path, value


def _put(run: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    here = run
    for name in parents:
        inner = here.get(name)
        if isinstance(inner, str) and name == "precision":
            inner = dict(PRECISIONS.get(inner.lower(), {}))
        here[name] = inner = inner if isinstance(inner, dict) else {}
        here = inner
    here[last] = value


def gpu_base(name: object) -> Accelerator | None:
    """The catalogue row of this name, None when there is none."""
    try:
        return find_accelerator(str(name or ""))
    except PlanError:
        return None
