"""The recorded cases of dense text models that came after the first thirty families."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Case = dict[str, Any]

_WIDE: Case = {
    "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "vocab_size": 4096, "intermediate_size": 1376,
    "max_position_embeddings": 1024, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_GATED: Case = {**_WIDE, "num_hidden_layers": 3, "num_key_value_heads": 2, "head_dim": 64}
_ODD: Case = {
    **_WIDE, "hidden_size": 360, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 60,
    "intermediate_size": 1001, "vocab_size": 5003,
}  # fmt: skip
_TOKENS: Case = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_NEO: Case = {"hidden_size": 512, "num_heads": 8, "vocab_size": 4096, "max_position_embeddings": 512, **_TOKENS}
_CODEGEN: Case = {"n_embd": 512, "n_layer": 3, "n_head": 8, "rotary_dim": 32, "vocab_size": 4096, **_TOKENS}
_XGLM: Case = {"d_model": 512, "num_layers": 3, "attention_heads": 8, "ffn_dim": 1376, "vocab_size": 4096, **_TOKENS}
_FALCON: Case = {"hidden_size": 512, "num_hidden_layers": 3, "num_attention_heads": 8, "vocab_size": 4096, **_TOKENS}
_FOUR: Case = {**_GATED, "num_hidden_layers": 4, "hidden_size": 384, "num_attention_heads": 6}

_BERT: Case = {**_WIDE, "num_hidden_layers": 3, "max_position_embeddings": 512, "num_labels": 3}
_ODD_BERT: Case = {
    **_BERT, "hidden_size": 360, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 1001, "vocab_size": 5003,
    "max_position_embeddings": 301, "type_vocab_size": 3, "num_labels": 5,
}  # fmt: skip
_DISTIL: Case = {"dim": 512, "n_layers": 3, "n_heads": 8, "hidden_dim": 1376, "vocab_size": 4096, "num_labels": 3}

CONFIGS: dict[str, Case] = {
    "cohere": {"model_type": "cohere", **_GATED},
    "cohere-odd": {"model_type": "cohere", **_ODD, "use_qk_norm": True, "attention_bias": True},
    "cohere2": {"model_type": "cohere2", **_FOUR},
    "cohere2-odd": {"model_type": "cohere2", **_ODD, "sliding_window_pattern": 2, "attention_bias": True},
    "olmo": {"model_type": "olmo", **_GATED, "num_key_value_heads": 8},
    "olmo-odd": {"model_type": "olmo", **_ODD, "clip_qkv": 8.0, "attention_bias": True, "tie_word_embeddings": True},
    "olmo3": {"model_type": "olmo3", **_FOUR},
    "olmo3-odd": {"model_type": "olmo3", **_ODD, "attention_bias": True},
    "glm": {"model_type": "glm", **_GATED},
    "glm-odd": {"model_type": "glm", **_ODD, "head_dim": 40, "attention_bias": False},
    "glm4": {"model_type": "glm4", **_GATED},
    "glm4-odd": {"model_type": "glm4", **_ODD, "head_dim": 40, "tie_word_embeddings": True},
    "smollm3": {"model_type": "smollm3", **_FOUR},
    "smollm3-odd": {
        "model_type": "smollm3",
        **_ODD,
        "no_rope_layers": [1, 0],
        "mlp_bias": True,
        "attention_bias": True,
    },
    "helium": {"model_type": "helium", **_GATED},
    "helium-odd": {"model_type": "helium", **_ODD, "attention_bias": True, "mlp_bias": True},
    "ernie4_5": {"model_type": "ernie4_5", **_GATED},
    "ernie4_5-odd": {"model_type": "ernie4_5", **_ODD, "head_dim": 40, "use_bias": True, "tie_word_embeddings": False},
    "exaone": {"model_type": "exaone", **_GATED},
    "exaone-odd": {"model_type": "exaone", **_ODD, "attention_bias": True, "mlp_bias": True},
    "exaone4": {"model_type": "exaone4", **_FOUR},
    "exaone4-odd": {"model_type": "exaone4", **_ODD, "sliding_window": None, "layer_types": ["full_attention"] * 2},
    "hunyuan_v1_dense": {"model_type": "hunyuan_v1_dense", **_GATED},
    "hunyuan_v1_dense-odd": {"model_type": "hunyuan_v1_dense", **_ODD, "attention_bias": True},
    "apertus": {"model_type": "apertus", **_GATED},
    "apertus-odd": {"model_type": "apertus", **_ODD, "attention_bias": True},
    "ministral3": {"model_type": "ministral3", **_GATED},
    "ministral3-odd": {"model_type": "ministral3", **_ODD, "head_dim": 40},
    "nanochat": {"model_type": "nanochat", **_GATED},
    "nanochat-odd": {"model_type": "nanochat", **_ODD, "attention_bias": True, "final_logit_softcapping": None},
    "vaultgemma": {"model_type": "vaultgemma", **_GATED, "query_pre_attn_scalar": 64},
    "vaultgemma-odd": {"model_type": "vaultgemma", **_ODD, "attn_logit_softcapping": None, "attention_bias": True},
    "jais2": {"model_type": "jais2", **_GATED},
    "jais2-odd": {"model_type": "jais2", **_ODD, "attention_bias": False, "mlp_bias": False},
    "cwm": {"model_type": "cwm", **_FOUR},
    "cwm-odd": {"model_type": "cwm", **_ODD},
    "internlm3": {"model_type": "internlm3", **_GATED},
    "internlm3-odd": {"model_type": "internlm3", **_ODD, "attention_bias": True, "mlp_bias": True},
    "iquestcoder": {"model_type": "iquestcoder", **_GATED},
    "iquestcoder-odd": {"model_type": "iquestcoder", **_ODD, "head_dim": 40, "attention_bias": True},
    "hyperclovax": {"model_type": "hyperclovax", **_GATED},
    "hyperclovax-odd": {"model_type": "hyperclovax", **_ODD, "use_post_norm": False, "mlp_bias": True},
    "gpt_neo": {"model_type": "gpt_neo", **_NEO, "num_layers": 4, "attention_types": [[["global", "local"], 2]]},
    "gpt_neo-odd": {
        "model_type": "gpt_neo",
        **_NEO,
        "hidden_size": 360,
        "num_layers": 2,
        "num_heads": 6,
        "intermediate_size": 1001,
        "attention_types": [[["global"], 1], [["local"], 1]],
        "window_size": 64,
        "max_position_embeddings": 333,
    },
    "bloom": {"model_type": "bloom", "hidden_size": 512, "n_layer": 3, "n_head": 8, "vocab_size": 4096, **_TOKENS},
    "bloom-odd": {"model_type": "bloom", "hidden_size": 360, "n_layer": 2, "n_head": 6, "vocab_size": 5003, **_TOKENS},
    "mpt": {"model_type": "mpt", "d_model": 512, "n_layers": 3, "n_heads": 8, "vocab_size": 4096, "max_seq_len": 1024},
    "mpt-odd": {
        "model_type": "mpt",
        "d_model": 360,
        "n_layers": 2,
        "n_heads": 6,
        "vocab_size": 5003,
        "max_seq_len": 300,
        "attn_config": {"clip_qkv": 8.0},
    },
    "codegen": {"model_type": "codegen", **_CODEGEN},
    "codegen-odd": {
        "model_type": "codegen",
        **_CODEGEN,
        "n_embd": 480,
        "n_layer": 2,
        "n_inner": 1001,
        "rotary_dim": 20,
    },
    "persimmon": {"model_type": "persimmon", **_WIDE, "num_hidden_layers": 3},
    "persimmon-odd": {"model_type": "persimmon", **_ODD, "qk_layernorm": False, "tie_word_embeddings": True},
    "falcon": {"model_type": "falcon", **_FALCON},
    "falcon-odd": {
        "model_type": "falcon",
        **_FALCON,
        "hidden_size": 360,
        "num_attention_heads": 6,
        "multi_query": False,
        "bias": True,
    },
    "falcon-new": {"model_type": "falcon", **_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon-alibi-odd": {
        "model_type": "falcon",
        **_FALCON,
        "hidden_size": 360,
        "num_attention_heads": 6,
        "alibi": True,
        "bias": True,
        "multi_query": False,
        "parallel_attn": False,
    },
    "xglm": {"model_type": "xglm", **_XGLM},
    "xglm-odd": {"model_type": "xglm", **_XGLM, "d_model": 360, "attention_heads": 6, "num_layers": 2, "ffn_dim": 1001},
    "biogpt": {"model_type": "biogpt", **_WIDE, "num_hidden_layers": 3},
    "biogpt-odd": {"model_type": "biogpt", **_ODD, "tie_word_embeddings": False, "activation_dropout": 0.1},
    "modernbert": {"model_type": "modernbert", **_BERT, "num_hidden_layers": 5, "classifier_pooling": "mean"},
    "modernbert-odd": {
        "model_type": "modernbert",
        **_ODD_BERT,
        "num_hidden_layers": 4,
        "global_attn_every_n_layers": 2,
        "norm_bias": True,
        "attention_bias": True,
        "mlp_bias": True,
        "classifier_bias": True,
        "mlp_dropout": 0.1,
    },
    "eurobert": {"model_type": "eurobert", **_BERT},
    "eurobert-odd": {
        "model_type": "eurobert",
        **_ODD_BERT,
        "num_key_value_heads": 3,
        "attention_bias": True,
        "mlp_bias": True,
        "classifier_pooling": "bos",
    },
    "nomic_bert": {"model_type": "nomic_bert", **_BERT},
    "nomic_bert-odd": {"model_type": "nomic_bert", **_ODD_BERT, "hidden_dropout_prob": 0.1},
    "mistral-window": {"model_type": "mistral", **_GATED, "sliding_window": 100},
    "olmo3-window": {"model_type": "olmo3", **_FOUR, "sliding_window": 100},
    "stablelm-parallel": {
        "model_type": "stablelm",
        **_GATED,
        "head_dim": None,
        "use_parallel_residual": True,
        "qk_layernorm": True,
    },
    "phi-normed": {"model_type": "phi", **_WIDE, "num_hidden_layers": 3, "qk_layernorm": True},
    "distilbert": {"model_type": "distilbert", **_DISTIL},
    "distilbert-odd": {
        "model_type": "distilbert",
        **_DISTIL,
        "dim": 360,
        "n_layers": 2,
        "n_heads": 6,
        "hidden_dim": 1001,
        "activation": "relu",
    },
    "electra": {"model_type": "electra", **_BERT, "embedding_size": 128},
    "electra-odd": {"model_type": "electra", **_ODD_BERT, "embedding_size": 360},
    "albert": {"model_type": "albert", **_BERT, "embedding_size": 128, "num_hidden_layers": 5},
    "albert-odd": {
        "model_type": "albert",
        **_ODD_BERT,
        "embedding_size": 96,
        "num_hidden_layers": 4,
        "num_hidden_groups": 2,
    },
    "ernie": {"model_type": "ernie", **_BERT},
    "ernie-odd": {"model_type": "ernie", **_ODD_BERT, "use_task_id": True},
    "rembert": {"model_type": "rembert", **_BERT},
    "rembert-odd": {"model_type": "rembert", **_ODD_BERT, "input_embedding_size": 96, "output_embedding_size": 500},
    "data2vec-text": {"model_type": "data2vec-text", **_BERT},
    "data2vec-text-odd": {"model_type": "data2vec-text", **_ODD_BERT},
    "roberta-prelayernorm": {"model_type": "roberta-prelayernorm", **_BERT},
    "roberta-prelayernorm-odd": {"model_type": "roberta-prelayernorm", **_ODD_BERT},
    "xlm-roberta-xl": {"model_type": "xlm-roberta-xl", **_BERT},
    "xlm-roberta-xl-odd": {"model_type": "xlm-roberta-xl", **_ODD_BERT},
}
EAGER_ONLY = ("vaultgemma", "gpt_neo", "bloom", "mpt", "xglm", "rembert")
"""Families that transformers runs without fused attention."""
CLASSIFIERS = (
    *("distilbert", "electra", "albert", "ernie", "rembert", "data2vec-text", "roberta-prelayernorm"),
    *("xlm-roberta-xl", "modernbert", "eurobert", "nomic_bert"),
)
HEADS: dict[str, str] = dict.fromkeys(CLASSIFIERS, "sequence-classification")
"""Output heads of the families that are not causal language models."""
MASKED = CLASSIFIERS
"""Families whose masked-LM head is recorded too."""
UNCHECKPOINTED = ("albert",)
"""Families that transformers does not checkpoint."""
TARGETS: dict[str, list[str]] = {
    **{key: ["query", "value"] for key in CLASSIFIERS},
    "distilbert": ["q_lin", "v_lin"],
    **{key: ["query_key_value"] for key in ("falcon", "bloom", "persimmon")},
    **{key: ["Wqkv"] for key in ("mpt", "modernbert")},
    **{key: ["q_proj", "v_proj"] for key in ("eurobert", "nomic_bert")},
    "codegen": ["qkv_proj"],
}
"""peft's default targets (peft.utils.constants), where it has any; q_proj and v_proj for the others."""


def lora(name: str) -> Case:
    """LoRA on peft's default targets, or the usual ones."""
    return {"name": "lora", "rank": 8, "targets": TARGETS.get(CONFIGS[name]["model_type"], ["q_proj", "v_proj"])}


ALL_LINEAR: Case = {"name": "lora", "rank": 8, "targets": "all-linear"}


def has_sdpa(name: str) -> bool:
    """Whether transformers offers fused attention for the config."""
    return CONFIGS[name]["model_type"] not in EAGER_ONLY and name != "falcon"  # one key head takes torch's unfused path


def _all_linear(name: str) -> Case:
    """peft wraps DistilBERT's hidden classifier for two reasons at once, and fails: there, with the other head."""
    head = "masked-lm" if CONFIGS[name]["model_type"] == "distilbert" else HEADS.get(CONFIGS[name]["model_type"])
    return {"head": head, "method": ALL_LINEAR}


def parameter_cases(names: Iterable[str] = CONFIGS) -> Iterator[Case]:
    """Every config: full, LoRA on peft's default targets, LoRA on every linear layer, and the masked-LM head."""
    for name in names:
        family = CONFIGS[name]["model_type"]
        attention = {} if has_sdpa(name) else {"attention": "eager"}
        for method in (None, lora(name)):
            yield {"config": name, "head": HEADS.get(family), "method": method, **attention}
        yield {"config": name, **_all_linear(name), **attention}
        if family in MASKED:
            yield {"config": name, "head": "masked-lm", "method": None, **attention}


def cases(names: Iterable[str] = CONFIGS) -> Iterator[Case]:
    """Four settings a config, so that methods, precisions, kernels and checkpointing all occur in each family."""
    for name in names:
        family, odd = CONFIGS[name]["model_type"], name.endswith("odd")
        # the mask of ones that BioGPT makes has no values under fake tensors, so that it is not seen to hide nothing
        fused = "sdpa" if has_sdpa(name) and name != "biogpt-odd" else "eager"
        size: Case = {"batch": 3, "seq": 200} if odd else {"batch": 4, "seq": 256}
        case: Case = {"config": name, "head": HEADS.get(family), "method": None}
        whole = family not in UNCHECKPOINTED
        adapted = {**case, **_all_linear(name)}
        yield {**case, "precision": "bf16-mixed", "attention": fused, "checkpointing": whole, **size}
        yield {**case, "method": lora(name), "precision": "bf16", "attention": "eager" if odd else fused, **size}
        if odd:
            yield {**case, "precision": "fp32", "attention": "eager", **size}
            yield {**adapted, "precision": "bf16-autocast", "attention": fused, **size}
        else:
            yield {**case, "precision": "bf16", "attention": fused, **size}
            yield {**adapted, "precision": "bf16", "attention": fused, "checkpointing": whole, **size}
        if family in MASKED and not odd:
            yield {**case, "head": "masked-lm", "precision": "bf16-mixed", "attention": fused, **size}


flop_cases = memory_cases = cases
