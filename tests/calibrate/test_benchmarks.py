"""Every benchmark counts what the plan counts, runs where its device can, and is not asked for elsewhere."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from planner import Run
from planner.calibrate.benchmarks import (
    Case,
    backends,
    benchmarks,
    compiled,
    convolution,
    dequantize,
    eight_bit,
    optimizer,
)
from planner.calibrate.hardware import Hardware, Staged, open_hardware
from planner.estimate.ranks import whole_model
from planner.estimate.resolve import resolve
from planner.workload.graph import Operation
from tests.calibrate.test_fit import hardware


@pytest.fixture(scope="module")
def processor() -> Hardware:
    return open_hardware("cpu")


def cases(name: str, device: Hardware) -> list[Case]:
    return list({b.name: b for b in benchmarks()}[name].cases(device))


def operations(run: dict[str, Any]) -> list[Operation]:
    resolved = resolve(Run.model_validate(run), None)
    return [o for s in whole_model(resolved, resolved.run.batch.seq_len or 0).stretches for o in s.operations]


@pytest.mark.parametrize(("name", "moves"), [("optimizer", True), ("fused_optimizer", True), ("clipping", False)])
def test_updates_and_clipping_run_over_fresh_gradients(name: str, moves: bool, processor: Hardware) -> None:
    found = cases(name, processor)
    assert {(c.shape["numel"], c.shape["count"]) for c in found} >= {(128, 1), (128, 64), (65536, 16)}
    work = next(c for c in found if (c.shape["numel"], c.shape["dtype"]) == (65536, "bf16")).prepare()
    assert isinstance(work, Staged)
    parameters = next(cell.cell_contents for cell in work.before.__closure__ or () if isinstance(cell.cell_contents, list))  # type: ignore[attr-defined]
    weight, gradient = parameters[0].detach().clone(), parameters[0].grad
    assert processor.time(work, 50) > 0
    assert parameters[0].grad is not gradient
    assert torch.equal(parameters[0].detach(), weight) is not moves or name == "optimizer"  # 1e-6 may round away in bf16


def test_what_is_staged_is_outside_of_the_clock(processor: Hardware) -> None:
    import time

    seen: list[str] = []
    took = processor.time(Staged(lambda: (seen.append("before"), time.sleep(0.05)), lambda: seen.append("work")), 10)
    assert seen == ["before", "work"]
    assert took < 0.04


def test_convolutions_have_the_sizes_that_the_plan_gives_them(processor: Hardware) -> None:
    batch, side, patch, width = convolution.IMAGES[0]
    vit = {"model_type": "vit", "hidden_size": width, "num_hidden_layers": 1, "num_attention_heads": 6, "intermediate_size": 64}
    planned = next(o for o in operations({"model": {**vit, "image_size": side, "patch_size": patch}, "batch": {"micro": batch}}) if o.name == "convolution")
    kernels = {k.layout: (k.m, k.n, k.k) for k in (*planned.forward, *planned.backward) if k.kind == "matmul"}
    assert all(k.extra == "convolution" for k in planned.forward)
    measured = {c.shape["layout"]: (c.shape["m"], c.shape["n"], c.shape["k"]) for c in cases("convolution", processor)[:4]}
    assert kernels == measured
    for case in cases("convolution", processor)[:4]:
        assert case.prepare()() is not None


def test_chains_move_what_the_plan_says_a_compiled_stack_moves(processor: Hardware) -> None:
    llama = {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 500,
    }  # fmt: skip
    run = {"model": llama, "stack": "hf-compile", "precision": "bf16", "batch": {"micro": 2, "seq_len": 32}, "hardware": {"gpu": "A100 SXM4 80GB"}}
    planned = {o.name: o for o in operations(run)}
    for name in ("rms_norm", "glu", "rotary", "cross_entropy"):
        o, chain = planned[name], compiled.CHAINS[name]
        assert sum(k.moved for k in o.forward) / o.inputs[0].bytes == pytest.approx(chain.forward, rel=0.05), name
        assert sum(k.moved for k in o.backward) / o.inputs[0].bytes == pytest.approx(chain.backward, rel=0.05), name
    assert cases("compiled", processor) == []
    for name, chain in compiled.CHAINS.items():
        for backward in (False, True):
            case = compiled.chain_case(processor, name, chain, (16, 64), backward, backend="eager")
            assert case.shape["operator"] == f"compiled:{name}"
            assert case.prepare()() is not None
    assert {str(c.shape["operator"]) for c in cases("compiled", hardware())} == {f"compiled:{name}" for name in compiled.CHAINS}


def test_attention_is_asked_of_each_backend_that_the_device_may_have(processor: Hardware) -> None:
    assert cases("backends", processor) == []
    assert {c.shape["backend"] for c in cases("backends", hardware())} == {"flash", "cudnn", "efficient", "math"}
    for name in ("flash", "math"):
        for backward in (False, True):
            assert backends.backend_case(processor, name, (1, 2, 16, 32), True, backward).prepare()() is not None
    with pytest.raises(NotImplementedError, match="cudnn attention is not available"):
        backends.backend_case(processor, "cudnn", (1, 2, 16, 32), True, False).prepare()


def test_libraries_are_asked_only_where_they_are(processor: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cases("eight_bit", processor) == []
    found: dict[str, Any] = {"bitsandbytes": None, "torchao": None}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found.get(name))
    assert cases("eight_bit", hardware()) == cases("dequantize", hardware()) == []
    found.update(bitsandbytes=object(), torchao=object())
    assert {c.shape["name"] for c in cases("eight_bit", hardware())} == {"adamw8bit", "paged-adamw8bit"}
    assert {c.shape["format"] for c in cases("dequantize", hardware())} == {"nf4", "int8", "nf4-torchao"}
    assert {c.shape["format"] for c in cases("dequantize", processor)} == {"nf4-torchao"}


def test_the_libraries_are_called_as_they_document_it(processor: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    optim, functional, nf4 = (ModuleType(name) for name in ("bitsandbytes.optim", "bitsandbytes.functional", "torchao.dtypes.nf4tensor"))
    optim.AdamW8bit = lambda parameters, lr: SimpleNamespace(step=lambda: len(parameters))  # type: ignore[attr-defined]
    functional.quantize_4bit = lambda x, quant_type: (x, quant_type)  # type: ignore[attr-defined]
    functional.dequantize_4bit = lambda packed, state: (packed.shape, state)  # type: ignore[attr-defined]
    functional.int8_vectorwise_quant = lambda x: (x, "scales", None)  # type: ignore[attr-defined]
    functional.int8_vectorwise_dequant = lambda x, scales: (x.shape, scales)  # type: ignore[attr-defined]
    nf4.to_nf4 = lambda x: SimpleNamespace(get_original_weight=lambda: x)  # type: ignore[attr-defined]
    for module in (ModuleType("bitsandbytes"), optim, functional, ModuleType("torchao"), ModuleType("torchao.dtypes"), nf4):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    made = optimizer.update(processor, eight_bit.maker("AdamW8bit"), 64, 3, "bf16")()
    assert made() == 3
    assert dequantize._nf4(processor, 8, 8)()() == ((8, 8), "nf4")
    assert dequantize._int8(processor, 8, 8)()() == ((8, 8), "scales")
    assert dequantize._torchao(processor, 8, 8)()().shape == (8, 8)
