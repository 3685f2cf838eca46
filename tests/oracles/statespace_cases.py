"""Recorded cases of state-space models, linear attention and hybrids: transformers' separate operators, which need no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.oracles.cases import FIRST_TWO, LAST_ONE, lora_all

_COMMON: dict[str, Any] = {"hidden_size": 256, "num_hidden_layers": 3, "vocab_size": 2048, "pad_token_id": 0}
CONFIGS: dict[str, dict[str, Any]] = {
    "mamba": {"model_type": "mamba", **_COMMON},
    "mamba-odd": {
        "model_type": "mamba", "hidden_size": 90, "num_hidden_layers": 3, "vocab_size": 1003, "state_size": 7,
        "conv_kernel": 3, "expand": 3, "use_bias": True, "residual_in_fp32": False, "time_step_rank": 5,
    },
    "falcon_mamba": {"model_type": "falcon_mamba", **_COMMON},
    "mamba2": {
        "model_type": "mamba2", **_COMMON, "num_heads": 8, "head_dim": 64, "state_size": 48, "n_groups": 2, "chunk_size": 32,
    },
    "mamba2-odd": {
        "model_type": "mamba2", "hidden_size": 90, "num_hidden_layers": 3, "vocab_size": 1003, "state_size": 7, "conv_kernel": 3,
        "expand": 3, "use_bias": True, "residual_in_fp32": False, "num_heads": 10, "head_dim": 27, "n_groups": 5, "chunk_size": 20,
    },
}  # fmt: skip
TARGETS: dict[str, list[str]] = {
    "mamba": ["in_proj", "x_proj"],
    "mamba-odd": ["in_proj"],
    "falcon_mamba": ["x_proj", "embeddings"],
}
