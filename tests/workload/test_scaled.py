"""Products in fp8 and fp4: what torchao keeps (tracked), what Transformer Engine keeps (its documentation), and what devices refuse."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.run import parse_run
from planner.workload.graph import BYTES
from tests.engine_cases import engine_run, tensor_peak
from tests.oracles import record

BASE = {
    "model": {"base": "meta-llama/Llama-3.1-8B", "num_hidden_layers": 2},
    "batch": {"micro": 1, "seq_len": 2048},
    "hardware": {"gpu": "H100 SXM 80GB"},
}


def plan(**changes: Any) -> Any:
    return estimate(parse_run({**BASE, **changes}))


def memory(e: Any, prefix: str) -> float:
    return sum(t.value for t in e.terms if t.name.startswith(prefix))


def cases() -> list[Any]:
    recorded = record.load("float8-memory")
    return [pytest.param(recorded["configs"][c["config"]], c, id=c["id"]) for c in recorded["cases"]]


@pytest.mark.parametrize(("config", "case"), cases())
def test_peak_is_near_that_of_torchao(config: dict[str, Any], case: dict[str, Any]) -> None:
    e = estimate(parse_run({**engine_run(config, case["arguments"]), "precision": "fp8"}))
    assert tensor_peak(e) == pytest.approx(case["truth"]["peak"], rel=0.03)


def test_transformer_engine_keeps_half_the_bytes_of_linear_inputs() -> None:
    """Frozen by its documentation: the quantised input takes the place of the bf16 one."""
    model = {"base": "meta-llama/Llama-3.1-8B", "num_hidden_layers": 16, "vocab_size": 512}
    options = {
        "stack": "megatron",
        "model": model,
        "batch": {"micro": 4, "seq_len": 2048},
        "hardware": {"gpu": "B200 SXM"},
    }
    low, plain = (memory(plan(precision=p, **options), "memory/activations") for p in ("fp8", "bf16"))
    tokens, hidden, ffn = 4 * 2048, 4096, 14336
    # one byte less for the inputs of query, key and value, of gate and up, and of down; one more for that of the
    # output projection, which flash attention keeps in bf16 anyway
    saved = 16 * tokens * (hidden + hidden + ffn - hidden)
    assert plain - low == pytest.approx(saved, rel=0.06)


def test_megatron_keeps_quantised_weights_and_their_transposes_before_blackwell() -> None:
    hopper = plan(stack="megatron", precision="fp8")
    blackwell = plan(stack="megatron", precision="fp8", hardware={"gpu": "B200 SXM"})
    kept = memory(hopper, "memory/weights/quantized_copies")
    linear = memory(hopper, "memory/weights/blocks") / 2
    assert kept == pytest.approx(2 * linear, rel=0.001)  # all but the norms
    assert memory(blackwell, "memory/weights/quantized_copies") == kept / 2


def test_low_precision_products_are_faster_where_products_are_large() -> None:
    assert plan(stack="megatron", precision="fp8").step_time_s < plan(stack="megatron", precision="bf16").step_time_s
    large = {"model": "meta-llama/Llama-3.1-8B", "hardware": {"gpu": "B200 SXM"}, "batch": {"micro": 4, "seq_len": 4096}}
    fp8, fp4 = (plan(stack="megatron", precision=p, **large).step_time_s for p in ("mxfp8", "nvfp4"))
    assert fp4 < fp8


def test_flops_do_not_depend_on_the_format() -> None:
    assert plan(precision="fp8").flops_per_step == plan(precision="bf16").flops_per_step


def test_scales_are_counted() -> None:
    assert (BYTES["mxfp8"], BYTES["nvfp4"], BYTES["fp8-block"]) == (33 / 32, 9 / 16, 132 / 128)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp8", "hardware": {"gpu": "A100 SXM4 80GB"}}, "is not a matrix type of A100"),
        ({"precision": "mxfp8"}, "needs Blackwell"),
        ({"precision": {"compute": "fp8", "recipe": "delayed"}}, "not offered by torchao"),
        ({"precision": {"compute": "bf16", "recipe": "block"}}, "means nothing for bf16"),
        ({"precision": {"compute": "fp8", "weights": "fp8"}}, "weights stay in bf16 or fp32"),
        ({"precision": {"compute": "fp8", "weights": "nf4"}, "method": "lora"}, "contradicts compute: fp8"),
    ],
)
def test_impossible_formats_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        plan(**changes)


def test_experts_multiply_in_fp8_under_transformer_engine() -> None:
    model = {"base": "mistralai/Mixtral-8x7B-v0.1", "num_hidden_layers": 1}
    options = {"model": model, "hardware": {"gpu": "H200 SXM 141GB"}, "batch": {"micro": 4, "seq_len": 2048}}
    low, plain = (plan(stack="megatron", precision=p, **options) for p in ("fp8", "bf16"))
    assert low.flops_per_step == plain.flops_per_step
    assert low.parameters == plain.parameters
    assert memory(low, "memory/weights/quantized_copies") > 2 * 0.9 * 8 * 3 * 4096 * 14336
    products = [
        sum(t.value for t in e.terms if t.name.startswith("time/") and t.name.endswith("/matmul")) for e in (low, plain)
    ]
    assert products[0] < 0.8 * products[1]
