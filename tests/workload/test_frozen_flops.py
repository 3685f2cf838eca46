"""FLOPs of a step with frozen weights, drawn: which layers, parameters or adapters are trained, and whether blocks are recomputed.

A sample of types runs with the other tests. All types: ``PLUMBLINE_DRAWS=8 python -m pytest tests/workload/test_frozen_flops.py``.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import PlanError
from planner.workload.families import read_config
from tests import recorded
from tests.engine_cases import counted_flops, engine_estimate
from tests.oracles import denoisers, flops
from tests.oracles.drawn import real

DRAWS = int(os.environ.get("PLUMBLINE_DRAWS", "0"))
SAMPLE = ("bert", "gpt2", "llama", "mixtral", "qwen3_vl", "t5", "vit")
PARTS = ("attn", "attention", "mlp", "norm", r"\.[02]\.", "bias", "embed", "head", "experts", r"(q|k)_proj", "down|output", "classifier")
"""Parts of parameter names: what matches one or two of them is trained."""
UNCHECKPOINTED = ("swin", "mobilevit")
"""Types that transformers checkpoints in nested levels, or not at all."""


def _bases() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Of each type the config and the sizes of its first recorded case of FLOPs."""
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    for area in recorded.areas():
        for case in recorded.cases(area, "flops"):
            kept = {k: v for k, v in case.arguments.items() if k not in ("method", "checkpointing")}
            found.setdefault(case.model, (case.config, kept))
    return found


BASES = _bases()


@st.composite
def methods(draw: st.DrawFn, layers: int) -> dict[str, Any]:
    """What is trained: the last or all but the first layers, what a name matches, biases, norms, or adapters on a frozen base."""
    name = draw(st.sampled_from(("first", "last", "trainable", "trainable", "lora", "bitfit", "ln_tuning")))
    if name in ("first", "last"):
        return {"name": "freeze", name: draw(st.integers(1, max(1, layers - 1)))}
    if name == "trainable":
        return {"name": "freeze", "trainable": draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=2, unique=True))}
    if name == "lora":
        return {"name": "lora", "rank": draw(st.integers(1, 9)), "targets": "all-linear"}
    return {"name": name}


@pytest.mark.parametrize("model_type", sorted(BASES) if DRAWS else SAMPLE)
def test_flops_of_drawn_frozen_runs(model_type: str) -> None:
    config, arguments = BASES[model_type]
    if "_class_name" in config and not denoisers.available():
        pytest.skip("diffusers is not installed")
    layers = read_config(config).layers
    compared = 0

    @settings(max_examples=DRAWS or 2)
    @given(methods(layers), st.booleans())
    def check(method: dict[str, Any], checkpointing: bool) -> None:
        nonlocal compared
        asked = {**arguments, "method": method, "checkpointing": checkpointing and model_type not in UNCHECKPOINTED}
        try:
            planned = engine_estimate(config, asked)
        except PlanError:
            return  # refused, with a reason
        try:
            truth = flops.measure(real(config), **asked)
        except (RuntimeError, ValueError):  # nothing of what is trained reaches the loss, or peft has no such target
            return
        compared += 1
        counted = truth["forward"] + truth["backward"]
        assert abs(counted_flops(planned, config, asked) / counted - 1) < 0.005, (config, asked)

    check()
    assert compared or not DRAWS, "no drawn run could be compared"
