"""The runs that prove a device: small ones for a processor, real sizes for a GPU. Every one has a name and a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from planner.run import Run, parse_run

Fields = Mapping[str, Any]

LLAMA = {
    "model_type": "llama", "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 6, "num_attention_heads": 8,
    "num_key_value_heads": 4, "vocab_size": 8192, "max_position_embeddings": 1024,
}  # fmt: skip
GPT2 = {"model_type": "gpt2", "n_embd": 512, "n_layer": 6, "n_head": 8, "vocab_size": 8192, "n_positions": 1024}
BERT = {"model_type": "bert", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8, "vocab_size": 30522}  # fmt: skip
T5 = {"model_type": "t5", "d_model": 512, "d_ff": 2048, "num_layers": 4, "num_heads": 8, "d_kv": 64, "vocab_size": 8192}
VIT = {
    "model_type": "vit", "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 8, "num_attention_heads": 6,
    "image_size": 224, "patch_size": 16,
}  # fmt: skip

LORA = {"name": "lora", "rank": 16, "targets": "all-linear"}
PROMPT = {"name": "prompt", "virtual_tokens": 20}
LAST = {"name": "freeze", "last": 2}
FULL = {"name": "full"}


@dataclass(frozen=True)
class Case:
    """A named run. quick: belongs to the short matrix too."""

    name: str
    run: Run
    quick: bool = False


def _case(family: str, config: Fields, method: Fields, precision: str, micro: int, seq: int | None, quick: bool = False, **more: Any) -> Case:
    batch = {"micro": micro, **({} if seq is None else {"seq_len": seq}), **more.pop("batch", {})}
    what = "-".join(str(part) for part in (method["name"], *(method.get(key) for key in ("rank", "virtual_tokens", "last")) ) if part)
    words = [family, what, precision, f"{micro}x{seq}" if seq is not None else f"{micro}"]
    words += [f"{value}" for key, value in more.items() if key in ("attention", "optimizer")]
    words += ["checkpointing"] if more.get("activation_checkpointing") == "full" else []
    words += [f"accumulation-{batch['accumulation']}"] if "accumulation" in batch else []
    run = parse_run({"model": dict(config), "method": dict(method), "precision": precision, "batch": batch, **more})
    return Case(" ".join(words), run, quick)


def processor_cases() -> Iterator[Case]:
    """Steps of 20 ms to 2 s on a few cores."""
    yield _case("llama", LLAMA, FULL, "fp32", 1, 128, True)
    yield _case("llama", LLAMA, FULL, "fp32", 4, 128)
    yield _case("llama", LLAMA, FULL, "fp32", 1, 512)
    yield _case("llama", LLAMA, FULL, "bf16", 2, 128, True)
    yield _case("llama", LLAMA, FULL, "bf16", 2, 512)
    yield _case("llama", LLAMA, LORA, "fp32", 2, 128)
    yield _case("llama", LLAMA, LORA, "bf16", 2, 256, True)
    yield _case("llama", LLAMA, PROMPT, "fp32", 2, 128)
    yield _case("llama", LLAMA, LAST, "bf16", 2, 256)
    yield _case("gpt2", GPT2, FULL, "fp32", 2, 128, True)
    yield _case("gpt2", GPT2, FULL, "fp32", 1, 384)
    yield _case("gpt2", GPT2, FULL, "bf16", 2, 256)
    yield _case("gpt2", GPT2, PROMPT, "fp32", 2, 128, True)
    yield _case("gpt2", GPT2, {"name": "bitfit"}, "fp32", 2, 128)
    yield _case("gpt2", GPT2, LAST, "fp32", 4, 128)
    yield _case("bert", BERT, FULL, "fp32", 4, 64, True)
    yield _case("bert", BERT, FULL, "fp32", 8, 128)
    yield _case("bert", BERT, FULL, "bf16", 8, 128)
    yield _case("bert", BERT, {"name": "bitfit"}, "fp32", 4, 128, True)
    yield _case("bert", BERT, {"name": "bitfit"}, "bf16", 4, 128)
    yield _case("bert", BERT, {"name": "lora", "rank": 8, "targets": ["query", "value"]}, "fp32", 4, 128)
    yield _case("bert", BERT, LAST, "fp32", 8, 64, True)
    yield _case("t5", T5, FULL, "fp32", 2, 128, True)
    yield _case("t5", T5, FULL, "bf16", 4, 128)
    yield _case("t5", T5, {"name": "lora", "rank": 8, "targets": ["q", "v"]}, "fp32", 2, 256)
    yield _case("t5", T5, {"name": "lora", "rank": 8, "targets": ["q", "v"]}, "bf16", 4, 64)
    yield _case("vit", VIT, FULL, "fp32", 2, None, True)
    yield _case("vit", VIT, FULL, "bf16", 4, None)
    yield _case("vit", VIT, LORA, "fp32", 4, None)
    yield _case("vit", VIT, {"name": "bitfit"}, "fp32", 2, None)
    yield _case("vit", VIT, LAST, "fp32", 8, None, True)


def matrix(device: str) -> list[Case]:
    """All cases for a kind of device."""
    return list(processor_cases())
