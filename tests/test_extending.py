"""The worked example of docs/extending.md runs as it stands, and what it adds is what PyTorch would train."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from planner import estimate
from planner.run import parse_run
from planner.workload.methods import METHODS

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    """What the document's blocks define, run one after the other; the method is taken out again."""
    assert len(BLOCKS) == 3
    found: dict[str, Any] = {}
    try:
        for block in BLOCKS:
            exec(compile(block, "docs/extending.md", "exec"), found)
        yield found
    finally:
        METHODS.pop("ssf", None)


def test_the_example_is_short() -> None:
    assert len(TEXT.splitlines()) < 60


def test_the_example_trains_what_it_counts(names: dict[str, Any]) -> None:
    assert names["plan"].trainable_parameters == 12 * 2 * 2304
    assert METHODS["ssf"].label == "SSF"


def test_the_example_keeps_what_autograd_keeps(names: dict[str, Any]) -> None:
    """Beside a frozen model the scale alone keeps a tensor: the output of each adapted layer, in the type of the product."""

    def peak(method: dict[str, Any], seq: int) -> float:
        run = {"model": "openai-community/gpt2", "method": method, "precision": "fp32", "attention": "sdpa"}
        return float(estimate(parse_run(run | {"batch": {"seq_len": seq}, "hardware": "H100 SXM 80GB"})).peak_memory_bytes)

    ssf, few = {"name": "ssf", "targets": ["c_attn"]}, {"name": "ssf", "targets": "transformer\\.h\\.0\\.attn\\.c_attn"}
    more = [peak(ssf, seq) - peak(few, seq) for seq in (512, 1024)]
    assert more[1] - more[0] == pytest.approx(11 * 512 * 2304 * 4, rel=0.02)


def test_the_example_counts_the_work_of_its_backward(names: dict[str, Any]) -> None:
    """The example's products are the frozen model's: forward, and backward of the inputs alone, as FlopCounterMode counts them."""
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    class Ssf(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.base = torch.nn.Linear(64, 192).requires_grad_(False)
            self.scale, self.shift = torch.nn.Parameter(torch.ones(192)), torch.nn.Parameter(torch.zeros(192))

        def forward(self, x: Any) -> Any:
            return self.base(x) * self.scale + self.shift

    layers = torch.nn.Sequential(Ssf(), torch.nn.Linear(192, 64, bias=False).requires_grad_(False), Ssf())
    with FlopCounterMode(display=False) as counter:
        layers(torch.ones(8, 64)).sum().backward()
    forward = 2 * 8 * 64 * 192
    assert counter.get_total_flops() == 3 * forward + 2 * forward  # backward stops at the first scale

    plan = names["plan"]
    other = estimate(parse_run({"model": "openai-community/gpt2", "method": {"name": "lora", "rank": 1, "targets": ["c_attn"]}}))
    added = plan.flops_per_step / other.flops_per_step
    assert 0.99 < added < 1.0  # LoRA's own small products are all that differs
