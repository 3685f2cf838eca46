"""Decoders with LayerNorm and a plain MLP: GPT-2, GPT-BigCode, OPT, GPT-NeoX, GPT-J, Phi."""

from __future__ import annotations

from dataclasses import replace

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.families.fields import Fields, family
from planner.workload.families.gated import llama


@family("phi")
def _(f: Fields) -> Architecture:
    names = Names(
        out="self_attn.dense",
        up="mlp.fc1",
        down="mlp.fc2",
        norms=("input_layernorm",),
        final_norm="model.final_layernorm",
        qk_norms=("self_attn.q_layernorm", "self_attn.k_layernorm"),
    )
    return llama(
        f,
        rotary=0.5,
        activation=f.text("hidden_act", default="gelu_new"),
        gated=False,
        norm="layer",
        norm_bias=True,
        placement="parallel",
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        head_bias=True,
        fresh_rotary=True,
        qk_norm="head" if f.flag("qk_layernorm", False) else "none",
        hidden_dropout=f.fraction("resid_pdrop"),
        embedding_dropout=f.fraction("embd_pdrop"),
        names=names,
    )


@family("gpt2")
def _(f: Fields) -> Architecture:
    return gpt2(f)


@family("gpt_bigcode")
def _(f: Fields) -> Architecture:
    if f.flag("add_cross_attention", False):
        raise PlanError("model.add_cross_attention", True, "is not covered", "Use false: a decoder alone.")
    base = gpt2(f)
    activation = f.text("activation_function", default="gelu_pytorch_tanh")
    kv_heads = 1 if f.flag("multi_query", True) else base.heads
    return replace(base, model_type="gpt_bigcode", activation=activation, softmax="upcast", kv_heads=kv_heads)


def gpt2(f: Fields) -> Architecture:
    """GPT-2: learned positions, fused query, key and value, everything with biases."""
    hidden, heads = f.size("n_embd", "hidden_size"), f.size("n_head", "num_attention_heads")
    names = Names(
        layer="transformer.h.{i}",
        fused="attn.c_attn",
        out="attn.c_proj",
        up="mlp.c_fc",
        down="mlp.c_proj",
        norms=("ln_1", "ln_2"),
        embedding="transformer.wte",
        positions="transformer.wpe",
        final_norm="transformer.ln_f",
    )
    positions = f.size("n_positions", "max_position_embeddings", default=1024)
    return Architecture(
        model_type="gpt2",
        hidden=hidden,
        layers=f.layers("n_layer", "num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=f.divided(hidden, heads, "n_head"),
        ffn=f.size("n_inner", "intermediate_size", default=4 * hidden),
        vocab=f.size("vocab_size"),
        max_positions=positions,
        learned_positions=positions,
        norm="layer",
        norm_bias=True,
        activation=f.text("activation_function", default="gelu_new"),
        gated=False,
        fused_qkv=True,
        qkv_bias=True,
        out_bias=True,
        mlp_bias=True,
        tied=f.flag("tie_word_embeddings", True),
        softmax="cast",
        embedding_dropout=f.fraction("embd_pdrop", default=0.1),
        hidden_dropout=f.fraction("resid_pdrop", default=0.1),
        attention_dropout=f.fraction("attn_pdrop", default=0.1),
        names=names,
    )


@family("opt")
def _(f: Fields) -> Architecture:
    hidden, heads, bias = f.size("hidden_size"), f.size("num_attention_heads"), f.flag("enable_bias", True)
    pre = f.flag("do_layer_norm_before", True)
    names = Names(
        layer="model.decoder.layers.{i}",
        out="self_attn.out_proj",
        up="fc1",
        down="fc2",
        norms=("self_attn_layer_norm", "final_layer_norm"),
        embedding="model.decoder.embed_tokens",
        positions="model.decoder.embed_positions",
        final_norm="model.decoder.final_layer_norm",
    )
    positions = f.size("max_position_embeddings", default=2048)
    width = f.size("word_embed_proj_dim", default=hidden)
    return Architecture(
        model_type="opt",
        hidden=hidden,
        layers=f.layers("num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=f.divided(hidden, heads, "num_attention_heads"),
        ffn=f.size("ffn_dim", "intermediate_size"),
        vocab=f.size("vocab_size"),
        max_positions=positions,
        learned_positions=positions + 2,
        norm="layer",
        norm_bias=True,
        norm_affine=f.flag("layer_norm_elementwise_affine", True),
        placement="pre" if pre else "post",
        final_norm=pre and not f.flag("_remove_final_layer_norm", False),
        activation=f.text("activation_function", default="relu"),
        gated=False,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
        embedding_width=0 if width == hidden else width,
        tied=f.flag("tie_word_embeddings", True),
        query_scaled=True,
        hidden_dropout=f.fraction("dropout", default=0.1),
        attention_dropout=f.fraction("attention_dropout"),
        names=names,
    )


@family("gpt_neox")
def _(f: Fields) -> Architecture:
    hidden, heads = f.size("hidden_size"), f.size("num_attention_heads")
    head_dim, bias = f.divided(hidden, heads, "num_attention_heads"), f.flag("attention_bias", True)
    names = Names(
        layer="gpt_neox.layers.{i}",
        fused="attention.query_key_value",
        out="attention.dense",
        up="mlp.dense_h_to_4h",
        down="mlp.dense_4h_to_h",
        embedding="gpt_neox.embed_in",
        final_norm="gpt_neox.final_layer_norm",
    )
    parallel = f.flag("use_parallel_residual", True)
    rotary = f.rope("partial_rotary_factor", f.fraction("rotary_pct", default=0.25))
    return Architecture(
        model_type="gpt_neox",
        hidden=hidden,
        layers=f.layers("num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        ffn=f.size("intermediate_size"),
        vocab=f.size("vocab_size"),
        max_positions=f.size("max_position_embeddings", default=2048),
        norm="layer",
        norm_bias=True,
        placement="parallel" if parallel else "pre",
        parallel_norms=2,
        activation=f.text("hidden_act", default="gelu"),
        gated=False,
        fused_qkv=True,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=True,
        rotary_dim=int(head_dim * rotary),
        fresh_rotary=True,
        tied=f.flag("tie_word_embeddings", False),
        hidden_dropout=f.fraction("hidden_dropout"),
        attention_dropout=f.fraction("attention_dropout"),
        names=names,
    )


@family("gptj")
def _(f: Fields) -> Architecture:
    hidden, heads = f.size("n_embd", "hidden_size"), f.size("n_head", "num_attention_heads")
    head_dim = f.divided(hidden, heads, "n_head")
    names = Names(
        layer="transformer.h.{i}",
        query="attn.q_proj",
        key="attn.k_proj",
        value="attn.v_proj",
        out="attn.out_proj",
        up="mlp.fc_in",
        down="mlp.fc_out",
        norms=("ln_1",),
        embedding="transformer.wte",
        final_norm="transformer.ln_f",
    )
    return Architecture(
        model_type="gptj",
        hidden=hidden,
        layers=f.layers("n_layer", "num_hidden_layers"),
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        ffn=f.size("n_inner", "intermediate_size", default=4 * hidden),
        vocab=f.size("vocab_size"),
        max_positions=f.size("n_positions", "max_position_embeddings", default=2048),
        norm="layer",
        norm_bias=True,
        placement="parallel",
        activation=f.text("activation_function", default="gelu_new"),
        gated=False,
        mlp_bias=True,
        head_bias=True,
        rotary_dim=f.size("rotary_dim", default=64),
        rotary_repeated=True,
        softmax="wide",
        tied=f.flag("tie_word_embeddings", False),
        embedding_dropout=f.fraction("embd_pdrop"),
        hidden_dropout=f.fraction("resid_pdrop"),
        attention_dropout=f.fraction("attn_pdrop"),
        names=names,
    )
