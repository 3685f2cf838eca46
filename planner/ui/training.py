"""Inputs of a training step: batch, precision, optimizer, checkpointing, offloading, software."""

from __future__ import annotations

import streamlit as st

from planner.ui import details, fields, state
from planner.ui.language import _
from planner.workload.architecture import Architecture
from planner.workload.optimizers import OPTIMIZERS

SEQUENCES = (state.AUTO, "512", "1024", "2048", "4096", "8192", "16384", "32768", "65536", "131072")


def draw(arch: Architecture | None) -> set[str]:
    """Draw what decides a step; says which inputs that depend on the model were drawn."""
    d = state.DEFAULTS
    read = fields.batch_fields(arch) if arch is not None else {"seq_len"}
    drawn = {key for key in fields.BATCH if key in read} | ({"seq"} if "seq_len" in read else set())
    with st.expander(_("Training details"), icon=":material/tune:", key="training_expander"):
        left, right = st.columns(2, gap="xsmall")
        left.number_input(
            _("Micro batch"),
            1,
            10**6,
            value=d["micro"],
            key="micro",
            bind=details.URL,
            help=_("Sequences per GPU and micro step. Larger is faster until memory ends."),
        )
        right.number_input(
            _("Accumulation"),
            1,
            10**6,
            value=d["accumulation"],
            key="accumulation",
            bind=details.URL,
            help=_("Micro steps per optimizer step: a larger batch for no memory."),
        )
        if "seq" in drawn:
            st.selectbox(
                _("Source length" if "target_len" in read else "Sequence length"),
                SEQUENCES,
                index=SEQUENCES.index(d["seq"]),
                key="seq",
                bind=details.URL,
                accept_new_options=True,
                help=_("Tokens per sequence; any number can be typed."),
            )
        details.draw_all(fields.RUN[key] for key in fields.BATCH if key in read)
        if arch is not None and len(arch.offered) > 1:
            drawn.add("head")
            names = details.options((state.AUTO, *arch.offered), "head")
            st.selectbox(_("Output head"), **details.choice("head") | {"options": names}, help=_(fields.RUN["head"].help))
        st.selectbox(
            _("Precision"), **details.choice("precision"), help=_("mixed keeps fp32 weights and casts on the fly; bf16 stores half.")
        )
        st.selectbox(
            _("Optimizer"), **details.choice("optimizer"), help=_("What it keeps per trained parameter decides its memory.")
        )
        for name in OPTIMIZERS[st.session_state["optimizer"]].options:
            drawn.add(f"optimizer_{name}")
            details.draw(fields.RUN[f"optimizer_{name}"])
        st.segmented_control(
            _("Activation checkpointing"),
            **details.choice("checkpointing"),
            default="none",
            required=True,
            width="stretch",
            help=_("Recompute activations in backward: saves memory, costs time."),
        )
        if st.session_state["checkpointing"] == "full":
            drawn |= {"every", "keep"}
            details.draw_all((fields.RUN["every"], fields.RUN["keep"]))
        st.selectbox(
            _(fields.RUN["offload"].label), **details.choice("offload"), help=_("Saves memory on the GPU and waits for the link to the host.")
        )
        drawn.add("offload")
        if st.session_state["offload"] != "none":
            drawn.add("host_memory")
            details.draw(fields.RUN["host_memory"])
        st.selectbox(
            _("Attention"),
            **details.choice("attention"),
            help=_("Eager attention keeps sequence × sequence scores; the others do not."),
        )
        st.selectbox(_("Training software"), **details.choice("stack"), help=_("Decides what is fused, kept, cast and overlapped."))
        st.segmented_control(
            _("Task"),
            **details.choice("task"),
            default="sft",
            required=True,
            width="stretch",
            help=_("Only fine-tuning is offered LoRA as help."),
        )
        st.text_input(
            _("Other fields"),
            key="more",
            bind=details.URL,
            max_chars=2000,
            placeholder=_("method.alpha: 32, data.epochs: 2"),
            help=_("Any field of a run file, as dotted paths; a link puts here what has no input of its own."),
        )
    return drawn
