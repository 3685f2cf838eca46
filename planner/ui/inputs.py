"""The sidebar: the same inputs on every page, each with a key that is its name in the address."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from planner import units
from planner.catalog import accelerators, fetch_config, find_model, load_config, models
from planner.errors import PlanError
from planner.run import Method
from planner.ui import changes, counting, details, fields, parallel, state, texts, training, whole_inputs
from planner.ui.language import _
from planner.workload.methods import METHODS


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
    drawn = training.draw(arch)
    inputs.notes["defaults"] = st.container()
    drawn |= parallel.draw(arch)
    inputs.notes["parallel"] = st.container()
    drawn |= whole_inputs.draw()
    inputs.notes["whole"] = st.container()
    hidden = {"seq", *fields.RUN} - drawn  # what means nothing for this plan says nothing
    inputs.values = {
        key: value if key in hidden else st.session_state.get(key, value) for key, value in state.defaults().items()
    }
    return inputs


def _presets() -> None:
    st.pills(_("Start from"), list(texts.PRESETS), key="preset", format_func=_, on_change=changes.apply_preset)
    with st.container(horizontal=True, gap="small"):
        st.button(
            _("Reset"),
            icon=":material/restart_alt:",
            type="tertiary",
            key="reset",
            on_click=changes.set_values,
            args=(state.defaults(),),
            help=_("Back to the plan that opens."),
        )
        if "before" in st.session_state:
            st.button(
                _("Undo"),
                icon=":material/undo:",
                type="tertiary",
                key="undo",
                on_click=changes.undo,
                help=_("What stood here before the last preset, reset or suggestion."),
            )


def _model(inputs: Inputs) -> None:
    st.segmented_control(_("Model"), **details.choice("source"), default=state.CATALOG, required=True, width="stretch")
    if st.session_state["source"] == state.CONFIG:
        _config(inputs)
    else:
        _by_name(inputs)
    inputs.notes["model"] = st.container()


def _by_name(inputs: Inputs) -> None:
    names = [entry.id for entry in models()]
    st.selectbox(
        _("Name or Hugging Face id"),
        details.options(names, "model"),
        index=names.index(state.DEFAULTS["model"]),
        key="model",
        bind=details.URL,
        accept_new_options=True,
        label_visibility="collapsed",
        help=_("Type to search, or write an id such as organisation/name."),
    )
    name = str(st.session_state["model"] or "").strip()
    fetched = st.session_state.setdefault("fetched", {})
    if _known(name):
        _model_edits(name)
    elif name in fetched:
        inputs.config = fetched[name]
        st.caption(_(":material/cloud_done: config.json fetched from huggingface.co"))
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
    if not st.button(_(label), icon=":material/cloud_download:", key="fetch", width="stretch"):
        return
    try:
        with st.spinner(_("Asking huggingface.co …")):
            config = fetch_config(name)
    except PlanError as error:
        inputs.error = error
        return
    inputs.config = st.session_state["fetched"][name] = {**config, "_name_or_path": name}


def _model_edits(name: str) -> None:
    config = find_model(name).config
    with st.popover(_("Edit a copy"), icon=":material/edit:", type="tertiary", key="model_popover"):
        st.caption(_("Empty is as published. An edited model says so in its name."))
        for key, (label, names) in state.MODEL_EDITS.items():
            value = next((config[field] for field in names if field in config), None)
            st.number_input(
                _(label),
                1,
                10**7,
                value=None,
                step=1,
                key=key,
                bind=details.URL,
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
    st.file_uploader(_("or upload it"), type=["json"], key="config_file", max_upload_size=2)
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
    st.selectbox(_("Method"), **details.choice("method"), help=_("Which parameters are trained."))
    kind = METHODS[st.session_state["method"]]
    st.caption(_(kind.help))
    key = state.targets_key(kind.name)
    main = [name for name in kind.fields if name in fields.STARTS] or [name for name in kind.fields[:1] if name in fields.METHOD]
    for name in main:
        details.draw(fields.METHOD[name])
    if "targets" in kind.fields:
        st.selectbox(
            _("Target layers"),
            details.options((state.AUTO, "all-linear", "q_proj, v_proj") if key == "own_targets" else ("all-linear", state.AUTO, "q_proj, v_proj"), key),
            key=key,
            bind=details.URL,
            accept_new_options=True,
            help=_(f"{Method.model_fields['targets'].description} auto: what the method takes by itself."),
        )
    rest = [name for name in kind.fields if name in fields.METHOD and name not in main]
    if rest:
        with st.expander(_("Method details"), icon=":material/build:", key="method_expander"):
            details.draw_all(fields.METHOD[name] for name in rest)
    sent = fields.of_method(kind.fields, {name: st.session_state.get(name) for name in kind.fields})
    for name in main:
        if name in fields.STARTS and name not in sent and st.session_state[name] is not None:
            st.caption(_(f"{fields.METHOD[kind.fields[0]].label} stands in place of {fields.METHOD[name].label.lower()}."))


def _hardware(inputs: Inputs) -> None:
    names = [part.name for part in accelerators()]
    left, right = st.columns([5, 3], gap="xsmall")
    left.selectbox(
        "GPU",
        details.options(names, "gpu"),
        index=names.index(state.DEFAULTS["gpu"]),
        key="gpu",
        bind=details.URL,
        accept_new_options=True,
    )
    right.number_input(_("How many"), 1, 10**7, value=1, step=1, key="gpus", bind=details.URL)
    part = state.gpu_base(st.session_state.get("gpu"))
    inputs.notes["gpu"] = st.container()
    if part is None:
        return
    with st.popover(_("Edit a copy"), icon=":material/edit:", type="tertiary", key="gpu_popover"):
        st.caption(_("Empty is as in the catalogue. An edited accelerator says so in its name."))
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
            st.number_input(_(label), 0.001, 1e9, value=None, key=key, bind=details.URL, placeholder=shown)


def _data(inputs: Inputs) -> None:
    st.text_input(
        _("Training data"),
        state.DEFAULTS["data"],
        key="data",
        bind=details.URL,
        max_chars=100,
        help=_("Tokens: 10M, 1.5B, 3 epochs of 80M. Or samples: 50K samples of 512 tokens."),
    )
    counting.draw()
    inputs.notes["data"] = st.container()
