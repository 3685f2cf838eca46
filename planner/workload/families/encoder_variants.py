"""Encoders that differ from BERT in names, in where their norms stand, or in factored or shared weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture
from planner.workload.disentangled import Disentangled
from planner.workload.disentangled_fused import FusedDisentangled
from planner.workload.families.encoders import bert_like
from planner.workload.families.fields import Fields, family


def _named(base: Architecture, **changes: str | tuple[str, str]) -> Architecture:
    return replace(base, names=replace(base.names, **changes))  # type: ignore[arg-type]


@family("distilbert")
def _(f: Fields) -> Architecture:
    sizes = {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
    }
    config = {**f.config, **{new: f.config[old] for new, old in sizes.items() if f.config.get(old) is not None}}
    base = bert_like(
        Fields(config),
        "distilbert",
        token_types=0,
        activation=f.text("activation", default="gelu"),
        embedding_dropout=f.fraction("dropout", default=0.1),
        hidden_dropout=f.fraction("dropout", default=0.1),
        attention_dropout=f.fraction("attention_dropout", default=0.1),
        classifier_dropout=f.fraction("seq_classif_dropout", default=0.2),
        classifier_activation="relu",
        branch_dropout="mlp",
        pooler=True,
        pooler_saved=True,
        pools=False,
    )
    return _named(
        base,
        layer="distilbert.transformer.layer.{i}",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        out="attention.out_lin",
        up="ffn.lin1",
        down="ffn.lin2",
        norms=("sa_layer_norm", "output_layer_norm"),
        pooler="pre_classifier",
        transform=("vocab_transform", "vocab_layer_norm"),
        decoder="vocab_projector",
    )


@family("electra")
def _(f: Fields) -> Architecture:
    width, hidden = f.size("embedding_size", default=128), f.size("hidden_size")
    base = bert_like(
        f,
        "electra",
        embedding_factor=width,
        transform_width=width,
        classifier_hidden=True,
        classifier_activation="gelu",
        pools=False,
    )
    return _named(
        base,
        embedding_projection="electra.embeddings_project" if width != hidden else "",
        transform=("generator_predictions.dense", "generator_predictions.LayerNorm"),
        decoder="generator_lm_head",
    )


@family("albert")
def _(f: Fields) -> Architecture:
    width, layers = f.size("embedding_size", default=128), f.layers("num_hidden_layers")
    base = bert_like(
        f,
        "albert",
        activation=f.text("hidden_act", default="gelu_new"),
        embedding_factor=width,
        transform_width=width,
        shared_layers=f.size("num_hidden_groups", default=1, most=layers)
        * f.size("inner_group_num", default=1, most=1),
        embedding_dropout=f.fraction("hidden_dropout_prob"),
        hidden_dropout=f.fraction("hidden_dropout_prob"),
        attention_dropout=f.fraction("attention_probs_dropout_prob"),
        classifier_dropout=f.fraction("classifier_dropout_prob", default=0.1),
        branch_dropout="attention",
        pooler=True,
    )
    return _named(
        base,
        layer="albert.encoder.albert_layer_groups.{i}.albert_layers.0",
        query="attention.query",
        key="attention.key",
        value="attention.value",
        out="attention.dense",
        up="ffn",
        down="ffn_output",
        norms=("attention.LayerNorm", "full_layer_layer_norm"),
        embedding_projection="albert.encoder.embedding_hidden_mapping_in",
        pooler="albert.pooler",
        transform=("predictions.dense", "predictions.LayerNorm"),
        decoder="predictions.decoder",
    )


@family("ernie")
def _(f: Fields) -> Architecture:
    return bert_like(
        f,
        "ernie",
        pooler=True,
        extra_tables=int(f.flag("use_task_id", False)) * f.size("task_type_vocab_size", default=3),
    )


@family("rembert")
def _(f: Fields) -> Architecture:
    base = bert_like(
        f,
        "rembert",
        pooler=True,
        tied=False,
        sdpa=False,
        scores_kept=True,
        embedding_factor=f.size("input_embedding_size", default=256),
        transform_width=f.size("output_embedding_size", default=1664),
        embedding_dropout=f.fraction("hidden_dropout_prob"),
        hidden_dropout=f.fraction("hidden_dropout_prob"),
        attention_dropout=f.fraction("attention_probs_dropout_prob"),
        classifier_dropout=f.fraction("classifier_dropout_prob", default=0.1),
    )
    return _named(
        base,
        embedding_projection="rembert.encoder.embedding_hidden_mapping_in",
        transform=("cls.predictions.dense", "cls.predictions.LayerNorm"),
    )


def _roberta(f: Fields, prefix: str, **changes: Any) -> Architecture:
    """RoBERTa's positions start behind the padding index, so that two rows of the table are never used."""
    positions = f.size("max_position_embeddings", default=512)
    return bert_like(f, prefix, classifier_hidden=True, max_positions=max(1, positions - 2), **changes)


@family("data2vec-text")
def _(f: Fields) -> Architecture:
    return _roberta(f, "data2vec_text")


@family("roberta-prelayernorm")
def _(f: Fields) -> Architecture:
    prefix = "roberta_prelayernorm"
    base = _roberta(f, prefix, placement="pre", final_norm=True)
    return _named(base, norms=("attention.LayerNorm", "intermediate.LayerNorm"), final_norm=f"{prefix}.LayerNorm")


@family("xlm-roberta-xl")
def _(f: Fields) -> Architecture:
    base = _roberta(
        f, "roberta", placement="pre", branch_dropout="attention", final_norm=True, token_types=f.size("type_vocab_size", default=1)
    )
    return _named(
        base,
        norms=("attention.self_attn_layer_norm", "LayerNorm"),
        embedding_norm="",
        final_norm="roberta.encoder.LayerNorm",
    )


@family("deberta-v2")
def _(f: Fields) -> Architecture:
    hidden, positions = f.size("hidden_size"), f.size("max_position_embeddings", default=512)
    if f.size("embedding_size", default=hidden) != hidden:
        raise PlanError("model.embedding_size", f.config["embedding_size"], f"is not hidden_size {hidden}", "Only equal widths are planned.")
    if not f.flag("legacy", True):
        raise PlanError("model.legacy", False, "is not planned", "Leave it out.")
    kinds = f.config.get("pos_att_type") or ()
    kinds = [kind.strip() for kind in kinds.lower().split("|")] if isinstance(kinds, str) else list(kinds)
    relative, shared = f.flag("relative_attention", False), f.flag("share_att_key", False)
    if relative and (not kinds or (shared and set(kinds) != {"c2p", "p2c"})):
        raise PlanError("model.pos_att_type", kinds, "is not planned with relative_attention", "Use [p2c, c2p].")

    def above(name: str, default: int) -> int:
        value = f.config.get(name, -1)
        return value if isinstance(value, int) and value > 0 else default

    encoder = "deberta.encoder"
    mixer = Disentangled(
        above("position_buckets", above("max_relative_positions", positions)) if relative else 0,
        "c2p" in kinds, "p2c" in kinds, shared, f"{encoder}.rel_embeddings",
        f"{encoder}.LayerNorm" if "layer_norm" in f.text("norm_rel_ebd", default="none").lower() else "",
        kernel=above("conv_kernel_size", 0), groups=above("conv_groups", 1), conv=f"{encoder}.conv",
    )  # fmt: skip
    if mixer.norm and not relative:
        raise PlanError("model.norm_rel_ebd", f.config["norm_rel_ebd"], "norms positions that are not there", "Set relative_attention.")
    base = bert_like(
        f, "deberta", pooler=True, pools=False, sdpa=False, causal=False, mixer=mixer, masked=False,
        learned_positions=positions if f.flag("position_biased_input", True) else 0,
        token_types=f.size("type_vocab_size", default=0, zero=True),
        classifier_activation=f.text("pooler_hidden_act", default="gelu"),
        classifier_dropout=f.fraction("cls_dropout", default=f.fraction("hidden_dropout_prob", default=0.1)),
    )  # fmt: skip
    if mixer.kernel:
        first = replace(mixer, convolved=True)
        base = replace(base, variants=({"mixer": first}, *({"mixer": mixer},) * (base.layers - 1)))
    names = {n: f"attention.self.{n}_proj" for n in ("query", "key", "value")}
    return _named(base, pooler="pooler.dense", **names)


@family("deberta")
def _(f: Fields) -> Architecture:
    hidden, positions = f.size("hidden_size"), f.size("max_position_embeddings", default=512)
    if f.size("embedding_size", default=hidden) != hidden:
        raise PlanError("model.embedding_size", f.config["embedding_size"], f"is not hidden_size {hidden}", "Only equal widths are planned.")
    for name, only in (("legacy", True), ("talking_head", False)):
        if f.flag(name, only) is not only:
            raise PlanError(f"model.{name}", not only, "is not planned for deberta", "Leave it out.")
    kinds = f.config.get("pos_att_type") or ()
    kinds = [kind.strip() for kind in kinds.lower().split("|")] if isinstance(kinds, str) else list(kinds)
    given = f.config.get("max_relative_positions", -1)
    span = given if isinstance(given, int) and given > 0 else positions
    mixer = FusedDisentangled(
        span if f.flag("relative_attention", False) else 0, "c2p" in kinds, "p2c" in kinds, False, "deberta.encoder.rel_embeddings"
    )
    base = bert_like(
        f, "deberta", pooler=True, pools=False, sdpa=False, causal=False, mixer=mixer, masked=False, norm="layer-steps",
        learned_positions=positions if f.flag("position_biased_input", True) else 0,
        token_types=f.size("type_vocab_size", default=0, zero=True),
        classifier_activation=f.text("pooler_hidden_act", default="gelu"),
        classifier_dropout=f.fraction("cls_dropout", default=f.fraction("hidden_dropout_prob", default=0.1)),
    )  # fmt: skip
    return _named(base, pooler="pooler.dense", fused="attention.self.in_proj")
