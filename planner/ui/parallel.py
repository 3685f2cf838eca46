"""Inputs of how the work is divided, and of what a GPU-hour and its electricity cost."""

from __future__ import annotations

import math

import streamlit as st

from planner import units
from planner.catalog import grids, price_for, providers_of
from planner.ui import details, fields, state, texts
from planner.ui.language import _
from planner.workload.architecture import Architecture


def draw(arch: Architecture | None) -> set[str]:
    """Draw how the work is divided and what it costs; says which inputs that depend on the others were drawn."""
    drawn: set[str] = set()
    with st.expander(_("Parallelism, price, energy"), icon=":material/hub:", key="parallel_expander"):
        st.selectbox(
            _("Shared among data-parallel GPUs"),
            **details.choice("sharding"),
            help=_("Sharing saves memory on each GPU and costs communication."),
        )
        left, right = st.columns(2, gap="xsmall")
        left.number_input(_("Tensor parallel"), 1, 10**4, value=1, key="tp", bind=details.URL, help=_("Splits each matrix product."))
        right.number_input(_("Pipeline stages"), 1, 10**4, value=1, key="pp", bind=details.URL, help=_("Splits the layers."))
        mixture = arch is not None and any(kind.experts is not None for stack in arch.stacks for kind in stack.kinds)
        several = st.session_state["gpus"] > 1
        drawn |= _drawn({"cp": several, "ep": mixture and several})
        degrees = {key: int(st.session_state[key]) if key in drawn else 1 for key in ("cp", "ep")}
        meant = {
            "cp_kind": degrees["cp"] > 1,
            "expert_capacity": mixture,
            "expert_imbalance": mixture and degrees["ep"] > 1,
            "virtual_pp": st.session_state["pp"] > 1,
            "schedule": st.session_state["pp"] > 1,
            "stages": st.session_state["pp"] > 1,
            "sequence_parallel": st.session_state["tp"] > 1,
        }
        drawn |= _drawn(meant)
        st.caption(_(_data_parallel(drawn)))
        left, right = st.columns(2, gap="xsmall")
        left.number_input(
            _("GPUs per machine"),
            1,
            10**4,
            value=None,
            key="per_node",
            bind=details.URL,
            placeholder="typical",
            help=_("Those in one machine talk over the fast link."),
        )
        right.number_input(
            _("Network [Gb/s]"),
            0.1,
            1e6,
            value=None,
            key="network",
            bind=details.URL,
            placeholder="typical",
            help=_("Of a whole machine."),
        )
        st.selectbox(_(fields.RUN["network_kind"].label), **details.choice("network_kind"), help=_(fields.RUN["network_kind"].help))
        drawn.add("network_kind")
        left, right = st.columns(2, gap="xsmall")
        left.number_input(
            _("$ per GPU-hour"),
            0.0,
            1e6,
            value=None,
            step=0.1,
            key="price",
            bind=details.URL,
            placeholder=_price_text(),
            help=_("Your own price; empty takes the dated catalogue."),
        )
        right.selectbox(
            _("Provider"),
            _providers(),
            key="provider",
            bind=details.URL,
            accept_new_options=True,
            help=_("median: of the providers in the catalogue."),
        )
        st.toggle(_("Spot price"), key="spot", bind=details.URL, help=_("Interruptible capacity. How often it is taken back stands under The whole run."))
        left, right = st.columns(2, gap="xsmall")
        left.selectbox(
            _("Electricity of"),
            [state.WORLD, *(grid.country for grid in grids() if grid.country != state.WORLD)],
            key="country",
            bind=details.URL,
            accept_new_options=True,
        )
        right.number_input(
            "PUE",
            1.0,
            5.0,
            value=None,
            step=0.05,
            key="pue",
            bind=details.URL,
            placeholder="1.56",
            help=_("Energy of the site per energy of the computers; empty is the industry's average."),
        )
    return drawn


def _drawn(meant: dict[str, bool]) -> set[str]:
    """Draw the inputs that mean something beside the others, and those that are said all the same."""
    shown = [key for key, means in meant.items() if means or details.said(key)]
    details.draw_all(fields.RUN[key] for key in shown)
    return set(shown)


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
