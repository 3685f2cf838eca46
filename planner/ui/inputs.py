"""The sidebar: the same inputs on every page, each with a key that is its name in the address."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from planner import units
from planner.catalog import accelerators, fetch_config, find_model, grids, load_config, models, price_for, providers_of
from planner.errors import PlanError
from planner.run import Method
from planner.ui import changes, details, fields, state, texts
from planner.ui.address import CHOICES
from planner.workload.architecture import Architecture
from planner.workload.methods import METHODS
from planner.workload.optimizers import OPTIMIZERS

SEQUENCES = (state.AUTO, "512", "1024", "2048", "4096", "8192", "16384", "32768", "65536", "131072")
URL: Any = "query-params"


@dataclass
class Inputs:
    """What the sidebar says: widget values, the model's own configuration if it is not the catalogue's, and what is wrong with them.

    notes: places under the inputs for a line on what was understood, filled once the plan is computed.
    """

    values: dict[str, Any]
    config: dict[str, Any] | None = None
    error: PlanError | None = None
    notes: dict[str, DeltaGenerator] = field(default_factory=dict)


def sidebar() -> Inputs:
    """Draw all inputs and read them."""
    inputs = Inputs({})
    _presets()
    _model(inputs)
    arch = fields.architecture(str(st.session_state.get("model") or ""), inputs.config)
    _method()
    inputs.notes["method"] = st.container()
    _hardware(inputs)
    _data(inputs)
    drawn = {*_training(inputs, arch), *_parallel(arch)}
    inputs.notes["parallel"] = st.container()
    hidden = {"seq", *fields.RUN} - drawn  # what means nothing for this plan says nothing
    inputs.values = {
        key: value if key in hidden else st.session_state.get(key, value) for key, value in state.defaults().items()
    }
    return inputs


def _choice(key: str) -> dict[str, Any]:
    """Arguments that all inputs with a closed list share."""
    return {"options": list(CHOICES[key]), "key": key, "bind": URL, "format_func": CHOICES[key].get}


def _options(names: Iterable[str], key: str) -> list[str]:
    """Names to choose from, and what was typed or stands in the address."""
    found = list(names)
    said = st.session_state.get(key, st.query_params.get(key))
    return [*found, said] if isinstance(said, str) and said and said not in found else found


def _presets() -> None:
    st.pills("Start from", list(texts.PRESETS), key="preset", on_change=changes.apply_preset)
    with st.container(horizontal=True, gap="small"):
        st.button(
            "Reset",
            icon=":material/restart_alt:",
            type="tertiary",
            key="reset",
            on_click=changes.set_values,
            args=(state.defaults(),),
            help="Back to the plan that opens.",
        )
        if "before" in st.session_state:
            st.button(
                "Undo",
                icon=":material/undo:",
                type="tertiary",
                key="undo",
                on_click=changes.undo,
                help="What stood here before the last preset, reset or suggestion.",
            )


def _model(inputs: Inputs) -> None:
    st.segmented_control("Model", **_choice("source"), default=state.CATALOG, required=True, width="stretch")
    if st.session_state["source"] == state.CONFIG:
        _config(inputs)
    else:
        _by_name(inputs)
    inputs.notes["model"] = st.container()


def _by_name(inputs: Inputs) -> None:
    names = [entry.id for entry in models()]
    st.selectbox(
        "Name or Hugging Face id",
        _options(names, "model"),
        index=names.index(state.DEFAULTS["model"]),
        key="model",
        bind=URL,
        accept_new_options=True,
        label_visibility="collapsed",
        help="Type to search, or write an id such as organisation/name.",
    )
    name = str(st.session_state["model"] or "").strip()
    fetched = st.session_state.setdefault("fetched", {})
    if _known(name):
        _model_edits(name)
    elif name in fetched:
        inputs.config = fetched[name]
        st.caption(":material/cloud_done: config.json fetched from huggingface.co")
    elif "/" in name:
        _offer_fetch(name, inputs)


def _known(name: str) -> bool:
    try:
        find_model(name)
    except PlanError:
        return False
    return True


def _offer_fetch(name: str, inputs: Inputs) -> None:
    """The network is used on this click only; only the configuration is asked for, and nothing of it is run."""
    label = "Fetch its config.json from huggingface.co"
    if not st.button(label, icon=":material/cloud_download:", key="fetch", width="stretch"):
        return
    try:
        with st.spinner("Asking huggingface.co …"):
            config = fetch_config(name)
    except PlanError as error:
        inputs.error = error
        return
    inputs.config = st.session_state["fetched"][name] = {**config, "_name_or_path": name}


def _model_edits(name: str) -> None:
    config = find_model(name).config
    with st.popover("Edit a copy", icon=":material/edit:", type="tertiary", key="model_popover"):
        st.caption("Empty is as published. An edited model says so in its name.")
        for key, (label, names) in state.MODEL_EDITS.items():
            value = next((config[field] for field in names if field in config), None)
            st.number_input(
                label,
                1,
                10**7,
                value=None,
                step=1,
                key=key,
                bind=URL,
                disabled=value is None,
                placeholder="–" if value is None else units.format_integer(value),
            )


def _config(inputs: Inputs) -> None:
    st.text_area(
        "config.json",
        key="config_text",
        height=140,
        max_chars=2**20,
        label_visibility="collapsed",
        placeholder='{"model_type": "llama", "hidden_size": 4096, …}',
    )
    st.file_uploader("or upload it", type=["json"], key="config_file", max_upload_size=2)
    upload, text = st.session_state.get("config_file"), st.session_state.get("config_text") or ""
    try:
        if upload is not None:
            text = _decoded(upload)
        if not text.strip():
            raise PlanError("model", None, "is not given yet", "Paste a model's config.json, or upload it.")
        inputs.config = load_config(text if text.lstrip("\ufeff \t\r\n").startswith("{") else "{" + text)
    except PlanError as error:
        inputs.error = error


def _decoded(upload: Any) -> str:
    try:
        return str(upload.getvalue().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise PlanError("model", upload.name, "is not UTF-8 text", "Upload the model's config.json.") from None


def _method() -> None:
    st.selectbox("Method", **_choice("method"), help="Which parameters are trained.")
    kind = METHODS[st.session_state["method"]]
    st.caption(kind.help)
    key = state.targets_key(kind.name)
    main = [name for name in kind.fields if name in fields.STARTS] or [name for name in kind.fields[:1] if name in fields.METHOD]
    for name in main:
        details.draw(fields.METHOD[name])
    if "targets" in kind.fields:
        st.selectbox(
            "Target layers",
            _options((state.AUTO, "all-linear", "q_proj, v_proj") if key == "own_targets" else ("all-linear", state.AUTO, "q_proj, v_proj"), key),
            key=key,
            bind=URL,
            accept_new_options=True,
            help=f"{Method.model_fields['targets'].description} auto: what the method takes by itself.",
        )
    rest = [name for name in kind.fields if name in fields.METHOD and name not in main]
    if rest:
        with st.expander("Method details", icon=":material/build:", key="method_expander"):
            details.draw_all(fields.METHOD[name] for name in rest)
    sent = fields.of_method(kind.fields, {name: st.session_state.get(name) for name in kind.fields})
    for name in main:
        if name in fields.STARTS and name not in sent and st.session_state[name] is not None:
            st.caption(f"{fields.METHOD[kind.fields[0]].label} stands in place of {fields.METHOD[name].label.lower()}.")


def _hardware(inputs: Inputs) -> None:
    names = [part.name for part in accelerators()]
    left, right = st.columns([5, 3], gap="xsmall")
    left.selectbox(
        "GPU",
        _options(names, "gpu"),
        index=names.index(state.DEFAULTS["gpu"]),
        key="gpu",
        bind=URL,
        accept_new_options=True,
    )
    right.number_input("How many", 1, 10**7, value=1, step=1, key="gpus", bind=URL)
    part = state.gpu_base(st.session_state.get("gpu"))
    inputs.notes["gpu"] = st.container()
    if part is None:
        return
    with st.popover("Edit a copy", icon=":material/edit:", type="tertiary", key="gpu_popover"):
        st.caption("Empty is as in the catalogue. An edited accelerator says so in its name.")
        known = {
            "memory_gib": part.memory_bytes / units.GIB,
            "bf16": part.peak_flops.get("bf16"),
            "tdp_w": part.tdp_w,
            "memory_bandwidth": part.memory_bandwidth,
        }
        for key, (name, label, scale) in state.GPU_EDITS.items():
            value = known[name]
            shown = (
                "–"
                if value is None
                else units.significant(value / scale if name not in ("memory_gib", "tdp_w") else value, 4)
            )
            st.number_input(label, 0.001, 1e9, value=None, key=key, bind=URL, placeholder=shown)


def _data(inputs: Inputs) -> None:
    st.text_input(
        "Training data",
        state.DEFAULTS["data"],
        key="data",
        bind=URL,
        max_chars=100,
        help="Tokens: 10M, 1.5B, 3 epochs of 80M. Or samples: 50K samples of 512 tokens.",
    )
    inputs.notes["data"] = st.container()


def _training(inputs: Inputs, arch: Architecture | None) -> set[str]:
    """Draw what decides a step; says which inputs that depend on the model were drawn."""
    d = state.DEFAULTS
    read = fields.batch_fields(arch) if arch is not None else {"seq_len"}
    drawn = {key for key in fields.BATCH if key in read} | ({"seq"} if "seq_len" in read else set())
    with st.expander("Training details", icon=":material/tune:", key="training_expander"):
        left, right = st.columns(2, gap="xsmall")
        left.number_input(
            "Micro batch",
            1,
            10**6,
            value=d["micro"],
            key="micro",
            bind=URL,
            help="Sequences per GPU and micro step. Larger is faster until memory ends.",
        )
        right.number_input(
            "Accumulation",
            1,
            10**6,
            value=d["accumulation"],
            key="accumulation",
            bind=URL,
            help="Micro steps per optimizer step: a larger batch for no memory.",
        )
        if "seq" in drawn:
            st.selectbox(
                "Source length" if "target_len" in read else "Sequence length",
                SEQUENCES,
                index=SEQUENCES.index(d["seq"]),
                key="seq",
                bind=URL,
                accept_new_options=True,
                help="Tokens per sequence; any number can be typed.",
            )
        details.draw_all(fields.RUN[key] for key in fields.BATCH if key in read)
        if arch is not None and len(arch.offered) > 1:
            drawn.add("head")
            names = _options((state.AUTO, *arch.offered), "head")
            st.selectbox(
                "Output head",
                names,
                key="head",
                bind=URL,
                format_func=lambda name: CHOICES["head"].get(name, name),
                help=fields.RUN["head"].help,
            )
        st.selectbox(
            "Precision", **_choice("precision"), help="mixed keeps fp32 weights and casts on the fly; bf16 stores half."
        )
        st.selectbox(
            "Optimizer", **_choice("optimizer"), help="What it keeps per trained parameter decides its memory."
        )
        for name in OPTIMIZERS[st.session_state["optimizer"]].options:
            drawn.add(f"optimizer_{name}")
            details.draw(fields.RUN[f"optimizer_{name}"])
        st.segmented_control(
            "Activation checkpointing",
            **_choice("checkpointing"),
            default="none",
            required=True,
            width="stretch",
            help="Recompute activations in backward: saves memory, costs time.",
        )
        if st.session_state["checkpointing"] == "full":
            drawn |= {"every", "keep"}
            details.draw_all((fields.RUN["every"], fields.RUN["keep"]))
        st.selectbox(
            fields.RUN["offload"].label, **_choice("offload"), help="Saves memory on the GPU and waits for the link to the host."
        )
        drawn.add("offload")
        if st.session_state["offload"] != "none":
            drawn.add("host_memory")
            details.draw(fields.RUN["host_memory"])
        st.selectbox(
            "Attention",
            **_choice("attention"),
            help="Eager attention keeps sequence × sequence scores; the others do not.",
        )
        st.selectbox("Training software", **_choice("stack"), help="Decides what is fused, kept, cast and overlapped.")
        st.segmented_control(
            "Task",
            **_choice("task"),
            default="sft",
            required=True,
            width="stretch",
            help="Only fine-tuning is offered LoRA as help.",
        )
        st.text_input(
            "Other fields",
            key="more",
            bind=URL,
            max_chars=2000,
            placeholder="method.alpha: 32, data.epochs: 2",
            help="Any field of a run file, as dotted paths; a link puts here what has no input of its own.",
        )
    inputs.notes["defaults"] = st.container()
    return drawn


def _parallel(arch: Architecture | None) -> set[str]:
    """Draw how the work is divided and what it costs; says which inputs that depend on the others were drawn."""
    drawn: set[str] = set()
    with st.expander("Parallelism, price, energy", icon=":material/hub:", key="parallel_expander"):
        st.selectbox(
            "Shared among data-parallel GPUs",
            **_choice("sharding"),
            help="Sharing saves memory on each GPU and costs communication.",
        )
        left, right = st.columns(2, gap="xsmall")
        left.number_input("Tensor parallel", 1, 10**4, value=1, key="tp", bind=URL, help="Splits each matrix product.")
        right.number_input("Pipeline stages", 1, 10**4, value=1, key="pp", bind=URL, help="Splits the layers.")
        mixture = arch is not None and any(kind.experts is not None for stack in arch.stacks for kind in stack.kinds)
        meant = {
            "cp": st.session_state["gpus"] > 1,
            "ep": mixture and st.session_state["gpus"] > 1,
            "virtual_pp": st.session_state["pp"] > 1,
            "sequence_parallel": st.session_state["tp"] > 1,
        }
        drawn |= {key for key, means in meant.items() if means or details.said(key)}
        details.draw_all(fields.RUN[key] for key in meant if key in drawn)
        st.caption(_data_parallel(drawn))
        left, right = st.columns(2, gap="xsmall")
        left.number_input(
            "GPUs per machine",
            1,
            10**4,
            value=None,
            key="per_node",
            bind=URL,
            placeholder="typical",
            help="Those in one machine talk over the fast link.",
        )
        right.number_input(
            "Network [Gb/s]",
            0.1,
            1e6,
            value=None,
            key="network",
            bind=URL,
            placeholder="typical",
            help="Of a whole machine.",
        )
        st.selectbox(fields.RUN["network_kind"].label, **_choice("network_kind"), help=fields.RUN["network_kind"].help)
        drawn.add("network_kind")
        left, right = st.columns(2, gap="xsmall")
        left.number_input(
            "$ per GPU-hour",
            0.0,
            1e6,
            value=None,
            step=0.1,
            key="price",
            bind=URL,
            placeholder=_price_text(),
            help="Your own price; empty takes the dated catalogue.",
        )
        right.selectbox(
            "Provider",
            _providers(),
            key="provider",
            bind=URL,
            accept_new_options=True,
            help="median: of the providers in the catalogue.",
        )
        st.toggle("Spot price", key="spot", bind=URL, help="Interruptible capacity; interruptions are not in the time.")
        left, right = st.columns(2, gap="xsmall")
        left.selectbox(
            "Electricity of",
            [state.WORLD, *(grid.country for grid in grids() if grid.country != state.WORLD)],
            key="country",
            bind=URL,
            accept_new_options=True,
        )
        right.number_input(
            "PUE",
            1.0,
            5.0,
            value=None,
            step=0.05,
            key="pue",
            bind=URL,
            placeholder="1.56",
            help="Energy of the site per energy of the computers; empty is the industry's average.",
        )
    return drawn


def _data_parallel(drawn: set[str]) -> str:
    """What is left for data parallelism."""
    gpus, said = st.session_state["gpus"], st.session_state
    degrees = {key: int(said[key]) for key in ("tp", "pp", "cp") if key in ("tp", "pp") or key in drawn}
    group = math.prod(degrees.values())
    if gpus % group:
        return texts.plain(f"{' × '.join(degrees)} = {group} does not divide {units.format_integer(gpus)} GPUs.")
    copies = gpus // group
    return f"{units.format_integer(copies)} data-parallel {'copy' if copies == 1 else 'copies'} of the model."


def _providers() -> list[str]:
    part = state.gpu_base(st.session_state.get("gpu"))
    return [state.MEDIAN, *(providers_of(part.name) if part is not None else ())]


def _price_text() -> str:
    part = state.gpu_base(st.session_state.get("gpu"))
    price = price_for(part.name) if part is not None else None
    return units.significant(price.usd_per_gpu_hour) if price is not None else "none known"
