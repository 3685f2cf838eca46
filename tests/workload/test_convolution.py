"""The convolution kernel against torch: FLOPs as counted, and the tensors that autograd keeps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from planner.workload.graph import Graph, Parameter
from tests.oracles.flops import GROUPED

CASES = {
    "patches": (nn.Conv2d(3, 24, 16, stride=16), (2, 3, 64, 48)),
    "mel": (nn.Conv1d(80, 32, 3, stride=2, padding=1), (3, 80, 50)),
    "first of a wave": (nn.Conv1d(1, 32, 10, stride=5, bias=False), (2, 1, 400)),
    "grouped": (nn.Conv1d(32, 64, 9, padding=4, groups=4), (2, 32, 30)),
    "depthwise": (nn.Conv2d(16, 16, 7, padding=3, groups=16), (2, 16, 12, 12)),
    "tubelets": (nn.Conv3d(3, 8, (2, 4, 4), stride=(2, 4, 4)), (1, 3, 4, 16, 16)),
}


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "frozen"])
@pytest.mark.parametrize("passed", [True, False], ids=["input passes a gradient", "input is data"])
@pytest.mark.parametrize("name", CASES)
def test_flops_and_saved_tensors_are_those_of_torch(name: str, passed: bool, trained: bool) -> None:
    if not (passed or trained):
        return
    module, size = CASES[name]
    module.requires_grad_(trained)
    x = torch.randn(size, requires_grad=passed)
    kept: list[int] = []

    def note(t: torch.Tensor) -> torch.Tensor:
        kept.append(t.numel())
        return t

    with (
        FlopCounterMode(display=False, custom_mapping=GROUPED) as forward,
        torch.autograd.graph.saved_tensors_hooks(note, lambda t: t),
    ):
        y = module(x)
    with FlopCounterMode(display=False, custom_mapping=GROUPED) as backward:
        y.sum().backward()

    g = Graph()
    weight = g.parameter(Parameter("weight", tuple(module.weight.shape), "fp32", trained))
    bias = None if module.bias is None else g.parameter(Parameter("bias", (y.shape[1],), "fp32", trained))
    mine = g.convolution(g.new(size, "fp32", passed), weight, bias, tuple(y.shape), groups=module.groups)
    operation = g.operations[-1]
    assert (mine.shape, mine.requires_grad) == (tuple(y.shape), True)
    assert sum(k.flops for k in operation.forward) == forward.get_total_flops()
    assert sum(k.flops for k in operation.backward) == backward.get_total_flops()
    assert sorted(t.numel for t in operation.saved) == sorted(kept)


def test_without_groups_torch_counts_the_same_by_itself() -> None:
    module, size = CASES["patches"]
    module.requires_grad_(True)
    counts = []
    for mapping in (None, GROUPED):
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            module(torch.randn(size, requires_grad=True)).sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == 3 * 2 * 2 * 4 * 3 * 24 * math.prod(module.weight.shape[1:])


def test_under_autocast_the_kept_copies_are_narrow() -> None:
    g = Graph(autocast="bf16")
    weight = g.parameter(Parameter("weight", (8, 3, 4), "fp32", True))
    y = g.convolution(g.new((2, 3, 16), "fp32", False), weight, None, (2, 8, 4))
    assert y.dtype == "bf16"
    assert {t.dtype for t in g.operations[-1].saved} == {"bf16"}
