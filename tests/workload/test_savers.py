"""Memory savers that the recorded cases do not reach: head and loss in chunks, and what TF32 leaves as it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from planner.estimate.engine import estimate
from planner.run import parse_run
from planner.workload.graph import Graph, Parameter
from planner.workload.heads import liger_loss
from tests.engine_cases import engine_run, tensor_peak
from tests.oracles import chunked, record
from tests.oracles.cases import CONFIGS

TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@pytest.mark.parametrize("sizes", [(1000, 512, 8192), (512, 256, 300), (4096, 512, 32000)])
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
def test_ligers_loss_keeps_both_gradients_and_one_chunk_of_logits(sizes: tuple[int, int, int], trained: bool, dtype: str) -> None:
    rows, width, vocab = sizes
    truth = chunked.measure(*sizes, TYPES[dtype], trained)
    g = Graph()
    x = g.new((rows, width), dtype, True)
    weight = g.parameter(Parameter("head", (vocab, width), dtype, trained))
    liger_loss(SimpleNamespace(graph=g), x, weight)  # type: ignore[arg-type]
    operation = g.operations[-1]
    assert sum(t.bytes for t in operation.saved) == truth["kept"]
    assert sum(t.bytes for t in operation.outputs) + operation.temporary[0] == pytest.approx(truth["forward"], rel=0.01)
    # backward hands on what forward made
    gradients = x.bytes + (weight.bytes if trained else 0)
    assert truth["kept"] + operation.temporary[1] + gradients == pytest.approx(truth["backward"], rel=0.01)


def test_tf32_changes_time_alone() -> None:
    base: dict[str, Any] = {"model": CONFIGS["llama"], "hardware": {"gpu": "A100 SXM4 80GB"}, "batch": {"micro": 4, "seq_len": 512}}
    tf32, fp32 = (estimate(parse_run({**base, "precision": name})) for name in ("tf32", "fp32"))
    assert (tf32.peak_memory_bytes, tf32.flops_per_step) == (fp32.peak_memory_bytes, fp32.flops_per_step)
    assert tf32.step_time_s < 0.8 * fp32.step_time_s


def offloaded_cases() -> list[Any]:
    recorded = record.load("offload-memory")
    return [pytest.param(recorded["configs"][c["config"]], c, id=c["id"]) for c in recorded["cases"]]


@pytest.mark.parametrize(("config", "case"), offloaded_cases())
def test_offloaded_activations_are_those_of_torchtunes_hooks(config: dict[str, Any], case: dict[str, Any]) -> None:
    e = estimate(parse_run({**engine_run(config, case["arguments"]), "offload": "activations"}))
    assert tensor_peak(e) == pytest.approx(case["truth"]["peak"], rel=0.01)
    sent = sum(t.value for t in e.terms if t.name.startswith("host/activations"))
    assert sent == pytest.approx(case["truth"]["sent"], rel=0.02)
