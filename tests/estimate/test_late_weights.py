"""What a backward in two parts keeps between them, against torch's own split."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from planner.estimate.late_weights import _output_gradients, _saved, kept_for_weights
from planner.estimate.ranks import setting_of
from planner.estimate.resolve import resolve
from planner.run import parse_run
from planner.workload import Workload, trace

torch = pytest.importorskip("torch")
llama = pytest.importorskip("transformers.models.llama.modeling_llama")

SIZES = {"hidden_size": 256, "intermediate_size": 640, "num_attention_heads": 8, "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 512}
BATCH, SEQ = 2, 256


def traced(stack: str) -> Workload:
    mapping: dict[str, Any] = {
        "model": {"model_type": "llama", **SIZES}, "precision": "bf16", "stack": stack, "attention": "sdpa", "hardware": {"gpu": "H100 SXM 80GB"},
        "batch": {"micro": BATCH, "seq_len": SEQ},
    }  # fmt: skip
    r = resolve(parse_run(mapping))
    return trace(setting_of(r, SEQ), r.head, "none")


def torch_split() -> tuple[float, float, float]:
    """Bytes that autograd keeps of two bf16 blocks after forward, after the gradients of activations, and of the gradients that wait then."""
    from torch.distributed.pipelining._backward import stage_backward_input
    from transformers import LlamaConfig

    config = LlamaConfig(**SIZES)
    config._attn_implementation = "sdpa"
    layers = torch.nn.ModuleList([llama.LlamaDecoderLayer(config, i) for i in range(2)]).to(torch.bfloat16)
    x = torch.randn(BATCH, SEQ, SIZES["hidden_size"], dtype=torch.bfloat16, requires_grad=True)
    tables = llama.LlamaRotaryEmbedding(config)(x, torch.arange(SEQ)[None])
    weights = {p.untyped_storage().data_ptr() for p in layers.parameters()}
    boxes: list[weakref.ref[Any]] = []

    class Box:
        def __init__(self, tensor: Any) -> None:
            self.tensor = tensor

    def pack(tensor: Any) -> Box:
        box = Box(tensor)
        boxes.append(weakref.ref(box))
        return box

    def alive() -> float:
        gc.collect()
        held = [box.tensor.untyped_storage() for ref in boxes if (box := ref()) is not None]
        return float(sum({s.data_ptr(): s.nbytes() for s in held if s.data_ptr() not in weights}.values()))

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box.tensor):
        y = x
        for layer in layers:
            y = layer(y, position_embeddings=tables)
    forward = alive()
    _, groups = stage_backward_input([y], [torch.randn_like(y)], [x], layers.parameters())
    gradients = [g for group in groups for found in group["grads"] for g in found if g is not None]
    return forward, alive(), float(sum(g.numel() * g.element_size() for g in gradients))


def test_torchs_split_keeps_everything_and_the_gradients_of_outputs() -> None:
    forward, between, waiting = torch_split()
    assert between == forward  # torch retains the graph
    blocks = [s for s in traced("hf").stretches if s.name == "block"]
    kept = sum(size * s.count for s in blocks for _, size in _saved(s, True))
    gradients = sum(size * s.count for s in blocks for _, size in _output_gradients(s, True))
    assert kept == pytest.approx(between, rel=0.03)
    assert gradients == pytest.approx(waiting, rel=0.01)


def test_a_split_of_its_own_keeps_less() -> None:
    """Megatron's zero-bubble: inputs and output gradients of the trained layers only, norms and attention are free."""
    own, torchs = (sum(kept_for_weights(traced(stack))[0]) for stack in ("megatron", "torchtitan"))
    assert own < 0.9 * torchs
    tokens, bf16 = BATCH * SEQ, 2
    inputs = SIZES["hidden_size"] * 3 + SIZES["intermediate_size"]  # of q, k and v together, of the output, of gate and up, of down
    outputs = 2 * SIZES["hidden_size"] + 2 * SIZES["hidden_size"] // 4 + 2 * SIZES["intermediate_size"] + SIZES["hidden_size"]
    assert own == pytest.approx(2 * tokens * bf16 * (inputs + outputs), rel=0.02)
