"""The planned run as real modules: parameters, precision, optimizer, and refusals that name the field."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import torch

from planner import estimate
from planner.errors import PlanError
from planner.probe import plan as plan_module
from planner.probe.build import build
from planner.probe.depth import at_depth
from planner.probe.gpu_matrix import gpu_cases
from planner.probe.matrix import matrix
from planner.probe.plan import plan
from tests.probe import tiny

CPU, META = torch.device("cpu"), torch.device("meta")

METHODS: list[tuple[Any, Any, str | None]] = [
    (tiny.LLAMA, "full", "full"),
    (tiny.LLAMA, tiny.LORA, "lora"),
    (tiny.LLAMA, {"name": "dora", "rank": 4, "targets": ["q_proj"]}, "dora"),
    (tiny.GPT2, "bitfit", "bitfit"),
    (tiny.BERT, {"name": "freeze", "last": 1}, "last"),
    (tiny.BERT, {"name": "freeze", "trainable": "classifier"}, "trainable"),
    (tiny.BERT, {"name": "lora", "rank": 4, "targets": ["query", "value"]}, "bert-lora"),
    (tiny.LLAMA, {"name": "freeze", "first": 1}, "first"),
    (tiny.LLAMA, {"name": "adapter", "bottleneck": 8, "placement": "houlsby"}, "adapter"),
    (tiny.LLAMA, {"name": "prompt", "virtual_tokens": 4}, "prompt"),
    (tiny.LLAMA, {"name": "prefix", "virtual_tokens": 4}, "prefix"),
    (tiny.LLAMA, "ia3", "ia3"),
    (tiny.LLAMA, {"name": "pissa", "rank": 4, "targets": "all-linear"}, "pissa"),
    (tiny.T5, {"name": "lora", "rank": 4, "targets": ["q", "v"]}, "t5-lora"),
    (tiny.VIT, tiny.LORA, "vit-lora"),
    (tiny.MIXTRAL, "full", "mixtral"),
]


@pytest.mark.parametrize(("model", "method"), [row[:2] for row in METHODS], ids=[row[2] for row in METHODS])
def test_real_modules_have_the_planned_parameters(model: Any, method: Any) -> None:
    run = tiny.run(model, method, seq=None if model is tiny.VIT else 32)
    loop = build(plan(run, "cpu"), META)
    parameters = {id(p): p for p in loop.model.parameters()}.values()
    planned = estimate(run)
    assert sum(p.numel() for p in parameters) == planned.parameters
    assert sum(p.numel() for p in parameters if p.requires_grad) == planned.trainable_parameters


def test_every_case_of_the_gpu_matrix_builds_at_one_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    built = 0
    for case in gpu_cases():
        assert case.run.precision is not None
        if case.run.precision.weights in ("nf4", "nf4-dq", "int8"):
            continue
        made = plan(case.run, "cuda")
        method = case.run.method
        if method.last is not None and method.last > 1:
            continue
        loop = build(made, META, at_depth(made.config, 1))
        assert any(p.requires_grad for p in loop.model.parameters()), case.name
        built += 1
    assert built >= 60


def test_the_matrices_have_names_of_their_own_and_the_sizes_that_were_promised() -> None:
    for device, least in (("cpu", 30), ("cuda:0", 60)):
        cases = matrix(device)
        assert len({case.name for case in cases}) == len(cases) >= least
        assert 8 <= sum(case.quick for case in cases) < len(cases)


@pytest.mark.parametrize(
    ("precision", "weights", "autocast", "master"),
    [
        ("fp32", torch.float32, None, False),
        ("bf16", torch.bfloat16, None, False),
        ("bf16-mixed", torch.float32, torch.bfloat16, False),
        ({"weights": "bf16", "compute": "bf16", "master_weights": True}, torch.bfloat16, None, True),
        ({"weights": "fp32", "compute": "fp32", "master_weights": True}, torch.float32, None, False),
    ],
)
def test_precision_of_the_modules(precision: Any, weights: torch.dtype, autocast: torch.dtype | None, master: bool) -> None:
    loop = build(plan(tiny.run(precision=precision), "cpu"), CPU)
    assert next(loop.model.parameters()).dtype == weights
    assert loop.format.autocast == autocast
    assert (loop.engine.copies is not None) == master
    before = next(loop.model.parameters()).detach().clone()
    loop.run(2)
    assert not torch.equal(before, next(loop.model.parameters()))
    if loop.engine.copies is not None:
        assert all(copy.dtype == torch.float32 for copy in loop.engine.copies)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw-fused", "sgd", "sgd-momentum", "adafactor"])
def test_optimizers_train(optimizer: str) -> None:
    loop = build(plan(tiny.run(optimizer=optimizer), "cpu"), CPU)
    loop.run(3)
    assert all(torch.isfinite(loss) for loss in loop.losses)


def test_adapters_are_fp32_over_a_bf16_base_unless_the_run_says_otherwise() -> None:
    for dtype, expected in ((None, torch.float32), ("bf16", torch.bfloat16)):
        method = {**tiny.LORA, **({} if dtype is None else {"adapter_dtype": dtype})}
        loop = build(plan(tiny.run(method=method, precision="bf16"), "cpu"), CPU)
        assert {p.dtype for p in loop.model.parameters() if p.requires_grad} == {expected}


def test_checkpointing_is_on_when_the_run_asks_for_it() -> None:
    loop = build(plan(tiny.run(activation_checkpointing="full"), "cpu"), CPU)
    without = build(plan(tiny.run(), "cpu"), CPU)
    loop.run(1)
    without.run(1)
    assert loop.tracked()["by_phase"]["forward"] < without.tracked()["by_phase"]["forward"]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("stack", {"stack": "torchtitan"}),
        ("hardware.gpus", {"hardware": {"gpu": "H100 SXM 80GB", "gpus": 2}}),
        ("offload", {"offload": "optimizer"}),
        ("activation_checkpointing", {"activation_checkpointing": "selective"}),
        ("activation_checkpointing", {"activation_checkpointing": {"keep": ["attention"]}}),
        ("compression", {"compression": {"pruned": 0.5}}),
        ("precision.weights", {"method": {"name": "qlora", "rank": 4, "targets": "all-linear"}, "precision": "bf16"}),
        ("head", {"model": tiny.BERT, "head": "none"}),
    ],
)
def test_what_cannot_be_built_names_the_field(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(PlanError) as caught:
        plan(tiny.run(**changes), "cpu")
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


def test_precisions_optimizers_and_methods_that_the_probe_lacks_name_the_field() -> None:
    for field, changes in (
        ("precision.compute", {"precision": "fp8"}),
        ("optimizer", {"optimizer": "muon"}),
        ("method.name", {"model": tiny.GPT2, "method": {"name": "vblora", "rank": 4, "targets": ["c_attn"], "vector_length": 7}}),
    ):
        with pytest.raises(PlanError) as caught:
            build(plan(tiny.run(**changes), "cpu"), META)
        assert caught.value.field == field


def test_four_bit_weights_without_bitsandbytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from planner.probe import build as build_module

    monkeypatch.setattr(build_module, "find_spec", lambda name: None)
    method = {"name": "qlora", "rank": 4, "targets": "all-linear"}
    with pytest.raises(PlanError, match="needs bitsandbytes"):
        build(plan(tiny.run(method=method, precision={"weights": "nf4", "compute": "bf16"}), "cuda"), META)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "find_spec", lambda name: None)
    with pytest.raises(PlanError, match="'torch' is not installed"):
        plan(tiny.run(), "cpu")


def test_flash_without_its_package_runs_sdpa_and_says_so() -> None:
    made = plan(tiny.run(precision="bf16", attention="flash"), "cpu")
    assert made.attention == "sdpa"
    assert "flash-attn" in made.notes[0]


def test_one_block_in_two_is_checkpointed() -> None:
    model = {**tiny.LLAMA, "num_hidden_layers": 4}
    peaks = []
    for checkpointing in ("full", {"every": 2}, "none"):
        loop = build(plan(tiny.run(model, activation_checkpointing=checkpointing, batch={"micro": 8}), "cpu"), CPU)
        loop.run(1)
        peaks.append(loop.tracked()["by_phase"]["forward"])
    assert peaks[0] < peaks[1] < peaks[2]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of libraries about themselves; a measurement ignores them as well
def test_every_kind_of_run_in_the_gpu_matrix_trains_when_it_is_small() -> None:
    """On a processor, with four narrow layers: one run of each family, method, precision, kernel and optimizer."""
    small = {
        "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 300,
        "n_embd": 64, "n_head": 4, "d_model": 64, "d_ff": 96, "num_heads": 4, "d_kv": 16, "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    seen = set()
    for case in gpu_cases():
        run, precision = case.run, case.run.precision
        assert isinstance(run.model, dict) and precision is not None
        if precision.weights in ("nf4", "nf4-dq", "int8"):
            continue
        kind = (run.model["model_type"], run.method.name, precision.weights, precision.autocast, run.attention, run.activation_checkpointing, run.optimizer)
        if kind in seen:
            continue
        seen.add(kind)
        config = {key: small.get(key, value) for key, value in at_depth(run.model, 4).items()}
        batch = run.batch.model_copy(update={"micro": 2, "seq_len": None if run.batch.seq_len is None else 32})
        loop = build(plan(run.model_copy(update={"model": config, "batch": batch}), "cuda"), CPU)
        loop.run(2)
        assert torch.isfinite(loop.losses[-1]), case.name
    assert len(seen) >= 35
