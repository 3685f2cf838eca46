"""State-space models: Mamba and Falcon Mamba.

Fields that a config leaves out have the defaults of transformers 5.24 `configuration_*.py`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.families.fields import Fields, family
from planner.workload.selective_scan import SelectiveScan
from planner.workload.single_branch import SingleBranch
from planner.workload.state_space_dual import StateSpaceDual

_BACKBONE = Names(
    layer="backbone.layers.{i}",
    embedding="backbone.embeddings",
    final_norm="backbone.norm_f",
    norms=("norm",),
)


def attention_free(f: Fields, **changes: Any) -> Architecture:
    """A stack without attention: no heads, no mask, no positions."""
    hidden = f.size("hidden_size")
    base = Architecture(
        model_type=f.config["model_type"],
        hidden=hidden,
        layers=f.layers("num_hidden_layers"),
        heads=1,
        kv_heads=1,
        head_dim=hidden,
        ffn=0,
        vocab=f.size("vocab_size"),
        max_positions=None,
        masked=False,
        activation=f.text("hidden_act", default="silu"),
        tied=f.flag("tie_word_embeddings", True),
        names=_BACKBONE,
    )
    return replace(base, **changes)


def rank(f: Fields, name: str, hidden: int) -> int:
    """Rank of Δ's projection: `auto` is a sixteenth of the width, rounded up."""
    return math.ceil(hidden / 16) if f.config.get(name, "auto") == "auto" else f.size(name)


def _mamba(f: Fields, norms: Any) -> Architecture:
    hidden, wide = f.size("hidden_size"), f.flag("residual_in_fp32", True)
    mixer = SelectiveScan(
        inner=int(f.number("expand", default=2) * hidden),
        state=f.size("state_size", default=16),
        kernel=f.size("conv_kernel", default=4),
        rank=rank(f, "time_step_rank", hidden),
        bias=f.flag("use_bias", False),
        convolution_bias=f.flag("use_conv_bias", True),
        activation=f.text("hidden_act", default="silu"),
        norms=norms,
    )
    return attention_free(f, mixer=mixer, layout=SingleBranch(mixer.linears, wide=wide), wide_residual=wide)


@family("mamba")
def _(f: Fields) -> Architecture:
    return _mamba(f, "none")


@family("falcon_mamba")
def _(f: Fields) -> Architecture:
    return _mamba(f, "plain")


@family("mamba2")
def _(f: Fields) -> Architecture:
    hidden, wide = f.size("hidden_size"), f.flag("residual_in_fp32", True)
    mixer = StateSpaceDual(
        heads=f.size("num_heads", default=128),
        head=f.size("head_dim", default=64),
        state=f.size("state_size", default=128),
        groups=f.size("n_groups", default=8),
        kernel=f.size("conv_kernel", default=4),
        chunk=f.size("chunk_size", default=256),
        bias=f.flag("use_bias", False),
        convolution_bias=f.flag("use_conv_bias", True),
        activation=f.text("hidden_act", default="silu"),
    )
    expand = f.number("expand", default=2)
    if mixer.inner != expand * hidden:
        raise PlanError(
            "model.num_heads",
            mixer.heads,
            f"times head_dim {mixer.head} is not expand {expand:g} times the width {hidden}",
            "Make num_heads · head_dim equal expand · hidden_size.",
        )
    return attention_free(
        f,
        mixer=mixer,
        layout=SingleBranch(mixer.linears, wide=wide),
        wide_residual=wide,
        tied=f.flag("tie_word_embeddings", False),
    )
