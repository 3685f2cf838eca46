"""Widget values, run files and links say the same thing in both directions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from planner import estimate
from planner.catalog import find_model
from planner.errors import PlanError
from planner.run import Run, parse_run
from planner.ui import address, fields, link, state, texts
from planner.workload.methods import METHODS

RUNS: tuple[dict[str, Any], ...] = (
    {"model": "gpt2", "method": {"name": "prefix", "virtual_tokens": 30, "projection": True, "encoder_hidden": 512}},
    {"model": "gpt2", "method": {"name": "adapter", "bottleneck": 16, "placement": "pfeiffer"}},
    {"model": "openai-community/gpt2"},
    {
        "model": "meta-llama/Llama-3.1-8B",
        "method": {"name": "lora", "rank": 16, "targets": "all-linear"},
        "data": "10M",
    },
    {
        "model": "meta-llama/Llama-3.1-8B",
        "method": {
            "name": "lora",
            "rank": 64,
            "alpha": 32,
            "targets": ["q_proj", "v_proj"],
            "modules_to_save": ["lm_head"],
        },
    },
    {
        "model": "meta-llama/Llama-3.1-8B",
        "method": {"name": "lora", "targets": "model\\.layers\\.[0-9]\\.mlp\\.up_proj"},
    },
    {
        "model": "meta-llama/Llama-3.1-8B",
        "method": {"name": "freeze", "first": 6},
        "precision": {"weights": "bf16", "compute": "bf16", "master_weights": True},
    },
    {
        "model": "Qwen/Qwen2.5-7B",
        "method": "qlora",
        "hardware": {"gpu": {"base": "RTX 4090", "memory_gib": 48, "peak_flops": {"bf16": 2e14}}, "gpus": 2},
    },
    {
        "model": {"base": "meta-llama/Llama-3.1-8B", "num_hidden_layers": 40, "rope_theta": 10000},
        "batch": {"micro": 3, "accumulation": 5, "seq_len": 3000},
    },
    {
        "model": {"base": "openai-community/gpt2", "n_layer": 24},
        "data": {"samples": 50000, "mean_tokens": 512, "epochs": 3},
    },
    {"model": "gpt2", "data": {"tokens": 80_000_000, "epochs": 1.5}, "task": "pretrain", "head": "causal-lm"},
    {
        "model": "gpt2",
        "data": {"samples": 123457},
        "price": {"usd_per_gpu_hour": 2.5, "spot": True},
        "energy": {"country": "FRA", "pue": 1.2},
    },
    {
        "model": "gpt2",
        "hardware": {"gpu": "A100 SXM4 80GB", "gpus": 16, "gpus_per_node": 8, "network_gbps": 800},
        "parallel": {"sharding": "zero2", "tp": 2},
        "activation_checkpointing": "selective",
        "attention": "flash",
        "optimizer": "adamw8bit",
        "stack": "torchtitan",
        "precision": "bf16-mixed",
        "offload": "optimizer",
    },
)


@pytest.mark.parametrize("mapping", RUNS, ids=lambda mapping: str(sorted(mapping))[:60])
def test_widgets_say_every_value_of_a_run(mapping: dict[str, Any]) -> None:
    run = parse_run(mapping)
    values, config = state.values_of(run)
    assert set(values) == set(state.defaults())
    said = parse_run(state.run_mapping(values, config))
    gpu = run.hardware.gpu or state.DEFAULTS["gpu"]
    assert (
        said.model_dump()
        == run.model_copy(update={"hardware": run.hardware.model_copy(update={"gpu": gpu})}).model_dump()
    )
    assert address.from_address(address.to_address(values)) == (address.to_address(values), [])


@pytest.mark.parametrize("mapping", RUNS, ids=lambda mapping: str(sorted(mapping))[:60])
def test_a_link_restores_the_run(mapping: dict[str, Any]) -> None:
    run = parse_run(mapping)
    text = link.encode(run)
    assert text.isascii()
    assert not set(text) & set("+/=&?# ")
    assert link.decode(text, "1") == (run, ())


def test_a_config_travels_in_the_link() -> None:
    run = parse_run({"model": find_model("gpt2").config})
    values, config = state.values_of(link.decode(link.encode(run))[0] or run)
    assert values["source"] == state.CONFIG
    assert config == find_model("gpt2").config


def test_a_link_lists_what_it_could_not_honour() -> None:
    run = Run(model="gpt2", batch={"micro": 4})
    mapping = json.loads(_text(link.encode(run))) | {"hardware": {"gpus": -3}, "colour": "blue", "precision": "fp7"}
    found, remarks = link.decode(_link(mapping), "9")
    assert found is not None
    assert found.batch.micro == 4
    assert len(remarks) == 4
    assert all(
        any(word in remark for remark in remarks) for word in ("version 9", "hardware.gpus", "colour", "precision")
    )


@pytest.mark.parametrize("text", ["", "?", "e30", "bm90IGpzb24", "W10", "x" * 500_000, "bnVsbA", "eyJtb2RlbCI6IFs"])
def test_a_broken_link_is_said_to_be_broken(text: str) -> None:
    run, remarks = link.decode(text)
    assert run is None
    assert remarks
    assert all(len(remark) < 400 for remark in remarks)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("10M", {"tokens": 10**7}),
        ("1.5B tokens", {"tokens": 15 * 10**8}),
        ("3 epochs of 80M", {"tokens": 8 * 10**7, "epochs": 3}),
        ("50K samples of 512 tokens", {"samples": 50_000, "mean_tokens": 512}),
        ("2.5 epochs of 50,000 samples", {"samples": 50_000, "epochs": 2.5}),
        ("  ", None),
    ],
)
def test_data_is_read_as_people_write_it(text: str, data: dict[str, Any] | None) -> None:
    assert state.parse_data(text) == data


@pytest.mark.parametrize("text", ["lots", "-5M", "3 epochs of", "nan", "1e400", "samples", "0"])
def test_data_that_is_none_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(PlanError, match="data"):
        state.parse_data(text)


@pytest.mark.parametrize("text", ["a", "[1, 2]", "{a: &x 1, b: *x}", "a: [", "3: 4"])
def test_other_fields_must_be_fields(text: str) -> None:
    with pytest.raises(PlanError, match="more"):
        state.parse_more(text)


def test_other_fields_reach_the_run() -> None:
    run = parse_run(state.run_mapping({"more": "method.alpha: 32, energy.pue: 1.3, head: causal-lm"}))
    assert (run.method.alpha, run.energy.pue, run.head) == (32, 1.3, "causal-lm")


@pytest.mark.parametrize("name", texts.PRESETS)
def test_presets_are_plans_that_fit(name: str) -> None:
    plan = estimate(parse_run(state.run_mapping(texts.PRESETS[name])))
    assert plan.peak_reserved_bytes < plan.usable_memory_bytes
    assert plan.fits is not False


def test_a_custom_gpu_and_model_are_copies_with_a_name_that_says_so() -> None:
    values = {"gpu_memory": 141.0, "gpu_bandwidth": 4800.0, "gpu_bf16": 1200.0, "model_layers": 40}
    before, after = estimate(parse_run(state.run_mapping({}))), estimate(parse_run(state.run_mapping(values)))
    assert after.details["accelerator"] == "H100 SXM 80GB (edited)"
    assert after.details["model"]["name"] == "meta-llama/Llama-3.1-8B (edited)"
    assert after.details["peak_flops"] == pytest.approx(1.2e15)
    assert after.usable_memory_bytes > 1.6 * before.usable_memory_bytes
    assert after.parameters > before.parameters


def test_an_edit_of_a_size_that_a_model_does_not_have_is_refused() -> None:
    with pytest.raises(PlanError, match="Leave it empty"):
        state.run_mapping({"model": "openai-community/gpt2", "model_kv": 4})


def test_an_address_may_hold_labels_or_words_of_a_run_file() -> None:
    fixed, remarks = address.from_address(
        {"method": "qlora", "stack": "torchtitan", "gpus": "8", "gpu": "Potato", "checkpointing": "Full"}
    )
    assert fixed == {"method": "QLoRA", "stack": "torchtitan", "gpus": "8", "gpu": "Potato", "checkpointing": "Full"}
    assert remarks == []


def test_an_address_that_no_input_can_take_is_remarked_on() -> None:
    fixed, remarks = address.from_address({"method": "magic", "gpus": "0", "micro": "many", "seq": "4096"})
    assert fixed == {"seq": "4096"}
    assert [remark.partition(":")[0] for remark in remarks] == ["method", "gpus", "micro"]


def test_labels_are_unique() -> None:
    """Labels stand in the address, so two values of one input may not share one."""
    for key, labels in address.CHOICES.items():
        assert len(set(labels.values())) == len(labels), key
        assert set(state.defaults()) >= {key}


def test_text_is_shown_as_it_is() -> None:
    assert texts.plain("<script>alert(1)</script>") == "\\<script\\>alert(1)\\</script\\>"
    assert (
        texts.plain("$x$ :red[y] *a* `c` ~d~ [l](u) a|b")
        == "\\$x\\$ \\:red\\[y\\] \\*a\\* \\`c\\` \\~d\\~ \\[l\\](u) a\\|b"
    )
    assert [texts.plain(text) for text in ("1. one", "# head", "- item", "a\n\n# b", "6.7 %")] == [
        "1\\. one",
        "\\# head",
        "\\- item",
        "a # b",
        "6.7 %",
    ]
    assert texts.code("a`b\nc") == "`a'b c`"


def _text(link: str) -> bytes:
    import base64

    return base64.urlsafe_b64decode(link + "=" * (-len(link) % 4))


def _link(mapping: dict[str, Any]) -> str:
    import base64

    return base64.urlsafe_b64encode(json.dumps(mapping).encode()).decode().rstrip("=")


FIELDS: tuple[dict[str, Any], ...] = (
    {"parallel": {"tp": 2, "pp": 2, "cp": 2, "ep": 2, "virtual_pp": 2, "sequence_parallel": True}, "hardware": {"gpus": 16, "network": "roce"}},
    {"activation_checkpointing": {"every": 2, "keep": ["attention", "matmul"]}, "offload": "optimizer+params"},
    {"hardware": {"gpus": 8, "host_memory_gib": 512.5}, "offload": "activations", "optimizer": "galore", "optimizer_options": {"rank": 64, "every": 7}},
    {"batch": {"target_len": 128, "images": 0, "image_size": 448, "audio_seconds": 12.5}, "head": "sequence-classification"},
    {"precision": "nvfp4", "optimizer": "adam-mini", "stack": "nemo"},
    {"method": {"name": "lora", "layers": [0, 3], "rank_pattern": {"a\\.b": 8}, "use_dora": True, "init_lora_weights": False, "bias": "all"}},
    {"method": {"name": "lora", "layers": 3, "exclude": "q_proj", "token_indices": [5], "modules_to_save": ["lm_head"], "dropout": 0.1}},
    {"method": {"name": "adalora", "initial_rank": 48, "rank": 16}},
    {"method": {"name": "oft", "block_size": 32}},
    {"method": {"name": "ia3"}},
    {"method": {"name": "ln_tuning", "targets": ["input_layernorm"]}},
    {"method": {"name": "freeze", "trainable": ["mlp", "attn"]}},
    {"method": {"name": "reft", "rank": 4, "positions": "f5+l5", "layers": [1]}},
)
"""Fields that have an input of their own."""


@pytest.mark.parametrize("mapping", FIELDS, ids=lambda mapping: json.dumps(mapping)[:60])
def test_every_field_with_an_input_returns_from_it_and_from_the_address(mapping: dict[str, Any]) -> None:
    run = parse_run({"model": "meta-llama/Llama-3.1-8B", "hardware": {"gpu": "H100 SXM 80GB"}} | mapping)
    run = run.model_copy(update={"hardware": run.hardware.model_copy(update={"gpu": "H100 SXM 80GB"})})
    values, config = state.values_of(run)
    assert parse_run(state.run_mapping(values, config)).model_dump() == run.model_dump()
    left = [part for part in values["more"].split(", ") if part and not part.endswith(": null")]
    assert not left
    assert address.from_address(address.to_address(values)) == (address.to_address(values), [])
    back = {key: _typed(key, text) for key, text in address.to_address(values).items()}
    assert parse_run(state.run_mapping(back)).model_dump() == run.model_dump()


def _typed(key: str, text: str) -> Any:
    """What a widget makes of its text in the address."""
    if key in address.CHOICES:
        return {label: value for value, label in address.CHOICES[key].items()}[text]
    start = state.defaults()[key]
    if isinstance(start, bool):
        return text == "true"
    if key in address.NUMBERS:
        whole = key not in fields.ENTRIES or fields.ENTRIES[key].kind == "integer"
        return int(text) if whole else float(text)
    return text


@pytest.mark.parametrize("name", fields.ENTRIES)
def test_an_input_says_what_its_field_says(name: str) -> None:
    entry = fields.ENTRIES[name]
    assert entry.help
    assert entry.label[:1].isupper() or entry.label == "rsLoRA"
    assert entry.read(entry.default) is None
    assert entry.shown(None) == entry.default


def test_a_first_field_that_is_given_takes_the_place_of_a_start() -> None:
    assert state.run_mapping({"method": "oft"})["method"]["rank"] == 16
    assert state.run_mapping({"method": "oft", "block_size": 32})["method"] == {"name": "oft", "block_size": 32, "targets": "all-linear"}
    assert state.run_mapping({"method": "freeze", "trainable": "mlp"})["method"] == {"name": "freeze", "trainable": "mlp"}
    assert state.run_mapping({"method": "ln_tuning"})["method"] == {"name": "ln_tuning"}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_planned_as_its_inputs_begin(name: str) -> None:
    if name == "bitfit":
        with pytest.raises(PlanError, match="no biases"):
            estimate(parse_run(state.run_mapping({"method": name})))
        return
    values = {"method": name}
    if name == "trainable_tokens":  # nobody else can say which
        with pytest.raises(PlanError, match="Name token ids") as missing:
            estimate(parse_run(state.run_mapping(values)))
        assert missing.value.value is None
        values |= {"token_indices": "0, 17"}
    plan = estimate(parse_run(state.run_mapping(values)))
    assert plan.trainable_parameters
