"""Random odd configs of every model type that has a reader: the recorded ones, with widths, depths, heads, experts, ties and biases drawn anew.

One table of fields says what may be drawn; it holds for nested configs too. What neither transformers nor the planner takes is no case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from tests import recorded

INTEGERS: dict[str, tuple[int, int]] = {
    r"intermediate_size|ffn_dim|d_ff|n_inner|hidden_dim": (3, 200),
    r"vocab_size": (305, 700),
    r"num_labels": (1, 9),
    r"max_position_embeddings|n_positions": (64, 130),
    r"moe_intermediate_size|shared_expert_intermediate_size": (3, 90),
}
"""Fields that are free of each other, and from where to where they are drawn [count]."""
FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "qkv_bias", "use_bias", "bias", "use_qkv_bias", "multimodal_projector_bias")
HEADS = ("num_attention_heads", "n_head", "num_heads")
KV, WIDTHS, DEPTHS = "num_key_value_heads", ("hidden_size", "n_embd", "d_model", "dim"), ("num_hidden_layers", "n_layer", "num_layers")
EXPERTS, ACTIVE = ("num_local_experts", "num_experts", "n_routed_experts"), ("num_experts_per_tok", "moe_k")
ALIASES = {"kimi_k2": "deepseek_v3"}
"""Types of published configs whose modules transformers has under another name only."""


def bases() -> dict[str, tuple[Mapping[str, Any], dict[str, Any]]]:
    """Of each type a recorded config, and the arguments (head, sizes) of its first case."""
    found: dict[str, tuple[Mapping[str, Any], dict[str, Any]]] = {}
    for area in recorded.areas():
        for case in recorded.cases(area, "parameters"):
            if case.arguments.get("method") is None:
                found.setdefault(case.model, (case.config, {k: v for k, v in case.asked().items() if k != "method"}))
    found["kimi_k2"] = ({**found["deepseek_v3"][0], "model_type": "kimi_k2"}, found["deepseek_v3"][1])
    config, arguments = found["llava"]
    tiles = {"image_grid_pinpoints": [[224, 224], [112, 224]]}
    found["llava_next"] = ({**config, "model_type": "llava_next", **tiles}, {**arguments, "seq": 1024, "image_size": 112})
    for name in ("DiTTransformer2DModel",):
        if name in found:
            config, arguments = found[name]
            found["Transformer2DModel"] = ({**config, "_class_name": "Transformer2DModel"}, arguments)
    return found


def real(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config under the name by which the real modules are built."""
    kind = config.get("model_type")
    return {**config, "model_type": ALIASES[kind]} if kind in ALIASES else dict(config)


@st.composite
def drawn(draw: st.DrawFn, config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with some of its fields drawn anew, its nested configs too."""
    made = dict(config)
    for name, value in config.items():
        if isinstance(value, Mapping) and name.endswith("_config"):
            made[name] = draw(drawn(value))
        if isinstance(value, int) and not isinstance(value, bool):
            for pattern, (least, most) in INTEGERS.items():
                if re.fullmatch(f"(?:\\w+_)?(?:{pattern})", name) and draw(st.booleans()):
                    made[name] = draw(st.integers(least, most))
    for name in FLAGS:
        if draw(st.booleans()):
            made[name] = draw(st.booleans())
    depth = next((n for n in DEPTHS if n in config), None)
    if depth and "layer_types" not in config and draw(st.booleans()):
        made[depth] = draw(st.integers(1, 5))
    heads, width = (next((n for n in names if n in config), None) for names in (HEADS, WIDTHS))
    if heads and width and draw(st.booleans()):
        kv = draw(st.integers(1, 3)) if KV in config else 1
        made[heads] = kv * draw(st.integers(1, 4))
        made[width] = made[heads] * 8 * draw(st.integers(1, 4))
        made |= {KV: kv} if KV in config else {}
    experts, active = (next((n for n in names if n in config), None) for names in (EXPERTS, ACTIVE))
    if experts and draw(st.booleans()):
        made[experts] = draw(st.integers(2, 9))
        made |= {active: draw(st.integers(1, made[experts]))} if active else {}
    return made
