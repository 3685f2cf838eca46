"""Launch files: what is written says the plan, what cannot be said is listed, and the script trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner import PlanError, Run, estimate
from planner.catalog import accelerators, find_model
from planner.cli import main
from planner.launch import FORMATS, Launch, find_format, launch, register
from planner.launch.aspects import ALL_ASPECTS, aspects
from planner.launch.clouds import GPUS
from planner.launch.peft_names import CONFIGS, peft_config
from planner.launch.torchtune import MODELS
from planner.run import Method

TINY = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 64, "tie_word_embeddings": False,
}  # fmt: skip
LORA: dict[str, Any] = {
    "model": "meta-llama/Llama-3.1-8B",
    "method": {"name": "lora", "rank": 16, "targets": "all-linear"},
    "hardware": {"gpu": "H100 SXM 80GB", "gpus": 16},
    "parallel": {"sharding": "zero3"},
    "batch": {"micro": 2, "accumulation": 4, "seq_len": 4096},
    "activation_checkpointing": "full",
    "data": {"tokens": "1.5B"},
}
PRETRAIN: dict[str, Any] = {
    "task": "pretrain", "model": "meta-llama/Llama-3.1-8B", "stack": "megatron", "precision": "bf16", "hardware": {"gpu": "H100 SXM 80GB", "gpus": 64},
    "parallel": {"tp": 4, "pp": 2, "sharding": "zero1", "sequence_parallel": True},
    "batch": {"micro": 1, "accumulation": 8, "seq_len": 4096}, "data": {"tokens": "10B"},
}  # fmt: skip


def made(form: str, mapping: dict[str, Any], **changes: Any) -> Launch:
    return launch(estimate(Run.model_validate({**mapping, **changes})), form)


def text_of(result: Launch, number: int = 0) -> str:
    return result.files[number].text


def test_an_unknown_format_names_the_known_and_a_second_of_a_name_is_refused() -> None:
    with pytest.raises(PlanError, match=r"^format: 'kubernetes' is no launch format. Use one of hf, trl, torchrun"):
        find_format("kubernetes")
    with pytest.raises(RuntimeError, match="registered twice"):
        register("hf", label="", position=0, reference="")(lambda plan: None)  # type: ignore[arg-type,return-value]


def test_every_field_of_a_run_that_changes_training_is_an_aspect() -> None:
    everything = Run.model_validate(
        {
            **PRETRAIN,
            "method": {"name": "lora", "rank": 4, "adapter_dtype": "bf16"},
            "precision": {"weights": "nf4", "compute": "fp8", "recipe": "row", "master_weights": True, "unquantized": "fp32"},
            "optimizer_options": {"rank": 4},
            "hardware": {"groups": [{"gpu": "H100 SXM 80GB", "gpus": 32}, {"gpu": "A100 SXM4 80GB", "gpus": 32}]},
            "parallel": {"tp": 2, "pp": 2, "cp": 2, "ep": 2, "virtual_pp": 2, "schedule": "interleaved", "stages": [8, 8, 8, 8], "sharding": "zero1",
                         "cp_kind": "ring", "expert_capacity": 1.5, "sequence_parallel": True},
            "batch": {"micro": 2, "accumulation": 2, "seq_len": 8, "target_len": 8, "images": 2, "audio_seconds": 3},
            "activation_checkpointing": "full", "checkpoints": {"every": 2, "keep": ["attention"]}, "attention": "flash", "offload": "params",
            "compression": {"pruned": 0.5, "sparsity": "2:4"}, "head": "none", "price": {"spot": True},
            "data": {"samples": 10, "mean_tokens": 4, "std_tokens": 2, "epochs": 3, "packing": "padded"},
        }
    )  # fmt: skip
    found = aspects(everything, "x")
    assert set(found) <= set(ALL_ASPECTS)
    assert set(ALL_ASPECTS) - set(found) <= {"edited-model", "weights", "compute", "gpu", "method-options"}
    assert all(sentence.endswith(".") for sentence in found.values())


@pytest.mark.parametrize("form", ["hf", "trl", "torchrun", "accelerate", "deepspeed", "slurm", "axolotl", "llamafactory", "skypilot", "dstack"])
def test_fine_tuning_formats_list_what_they_cannot_say(form: str) -> None:
    plain = made(form, LORA)
    lengths = {"samples": 1000, "mean_tokens": 300, "std_tokens": 100, "packing": "bucketed"}
    more = made(form, LORA, compression={"sparsity": "2:4"}, data=lengths, precision="bf16")
    extra = "\n".join(set(more.missing) - set(plain.missing))
    for words in ("2:4 sparse", "bucketed", "differ in length"):
        assert words in extra
    for file in more.files:
        for sentence in more.missing:
            assert sentence in (
                " ".join(json.loads(file.text)["_comment"]) if file.name.endswith(".json") else file.text
            )


def test_accelerate_reads_its_file(tmp_path: Path) -> None:
    config_args = pytest.importorskip("accelerate.commands.config.config_args")
    result = made("accelerate", LORA)
    path = tmp_path / "accelerate.yaml"
    path.write_text(text_of(result), encoding="utf-8")
    config = config_args.load_config_from_file(str(path))
    assert (config.num_processes, config.num_machines, config.mixed_precision) == (16, 2, "bf16")
    assert config.fsdp_config["fsdp_reshard_after_forward"] is True


def test_deepspeed_batches_multiply_and_offload_is_said() -> None:
    config = json.loads(text_of(made("deepspeed", LORA, parallel={"sharding": "zero2"}, offload="optimizer")))
    assert (
        config["train_batch_size"]
        == config["train_micro_batch_size_per_gpu"] * config["gradient_accumulation_steps"] * 16
        == 128
    )
    assert config["zero_optimization"]["stage"] == 2
    assert config["zero_optimization"]["offload_optimizer"]["device"] == "cpu"


def test_torchtitan_is_toml_whose_degrees_multiply_to_the_gpus() -> None:
    result = made("torchtitan", PRETRAIN, stack="torchtitan", parallel={"tp": 4, "pp": 2, "sharding": "zero3"})
    config = tomllib.loads(text_of(result))
    p = config["parallelism"]
    assert (
        p["data_parallel_shard_degree"]
        * p["data_parallel_replicate_degree"]
        * p["tensor_parallel_degree"]
        * p["pipeline_parallel_degree"]
        == 64
    )
    assert config["training"]["global_batch_size"] == 8 * 8
    with pytest.raises(PlanError, match=r"method.name: 'lora' cannot be started from torchtitan"):
        made("torchtitan", LORA)


def test_deepspeed_reads_its_file() -> None:
    """By DeepSpeed's own parser where it is installed; without one, batches and stages are checked above."""
    reader = pytest.importorskip("deepspeed.runtime.config")
    for sharding, offload in (("zero3", "optimizer+params"), ("ddp", "none")):
        told = json.loads(text_of(made("deepspeed", {**LORA, "hardware": "H100 SXM 80GB"}, parallel={"sharding": sharding}, offload=offload)))
        assert reader.DeepSpeedConfig(told).zero_optimization_stage == told["zero_optimization"]["stage"]


def test_clouds_get_the_plans_machines_and_the_script() -> None:
    for spot in (False, True):
        sky, stack = (yaml.safe_load(text_of(made(form, LORA, price={"spot": spot}))) for form in ("skypilot", "dstack"))
        assert (sky["num_nodes"], sky["resources"]) == (2, {"accelerators": "H100:8", **({"use_spot": True} if spot else {})})
        assert stack["nodes"] == 2 and stack["resources"]["gpu"] == {"name": "H100", "memory": "80GB", "count": 8}
        assert stack["spot_policy"] == ("spot" if spot else "on-demand")
        assert "train.py" in sky["run"] and "train.py" in stack["commands"][-1] and stack["files"] == ["train.py"]
    names = {part.name for part in accelerators()}
    assert set(GPUS) <= names
    with pytest.raises(PlanError, match=r"hardware.gpu: 'RTX 3060' cannot be started from a SkyPilot task"):
        made("skypilot", LORA, hardware={"gpu": "RTX 3060", "gpus": 1}, parallel={})


def test_torchtune_holds_the_batch_the_adapters_and_its_recipe() -> None:
    one = made("torchtune", LORA, hardware={"gpu": "H100 SXM 80GB", "gpus": 8})
    config = yaml.safe_load(text_of(one))
    assert one.command == "tune run --nproc-per-node 8 lora_finetune_distributed --config torchtune.yaml"
    assert (config["batch_size"], config["gradient_accumulation_steps"], config["tokenizer"]["max_seq_len"]) == (2, 4, 4096)
    assert config["model"] == {
        "_component_": "torchtune.models.llama3_1.lora_llama3_1_8b", "lora_attn_modules": ["q_proj", "k_proj", "v_proj", "output_proj"],
        "apply_lora_to_mlp": True, "apply_lora_to_output": False, "lora_rank": 16, "lora_alpha": 8, "lora_dropout": 0.0,
    }  # fmt: skip
    assert config["fsdp_reshard_after_forward"] is True and config["enable_activation_checkpointing"] is True
    full = made("torchtune", LORA, method="full", hardware={"gpu": "H100 SXM 80GB"}, parallel={}, precision="bf16")
    assert "full_finetune_single_device" in full.command and "optimizer_in_bwd" in yaml.safe_load(text_of(full))
    assert all(find_model(name).id == name for name in MODELS)
    for changes, words in (
        ({"method": {"name": "lora", "targets": ["gate_proj"]}}, "all three layers of the MLP or none"),
        ({"method": "ia3"}, "Use full, lora, qlora or dora"),
        ({"model": "tiiuae/falcon-7b"}, "builders are known here"),
    ):
        with pytest.raises(PlanError, match=words):
            made("torchtune", LORA, **({"hardware": {"gpu": "H100 SXM 80GB", "gpus": 8}} | changes))


def test_megatron_flags_say_the_model_and_its_division() -> None:
    result = made("megatron", PRETRAIN)
    flags = dict([*line.split(" ", 1), ""][:2] for line in text_of(result).splitlines() if not line.startswith("#"))
    assert flags["--num-query-groups"] == "8"
    assert flags["--tensor-model-parallel-size"] == "4"
    assert flags["--global-batch-size"] == "64"
    assert "--sequence-parallel" in flags and "--use-distributed-optimizer" in flags
    assert not [sentence for sentence in result.missing if "parallel" in sentence.lower()]


def test_yaml_formats_hold_the_batch_and_the_method() -> None:
    axolotl, factory = (yaml.safe_load(text_of(made(form, LORA))) for form in ("axolotl", "llamafactory"))
    assert (axolotl["micro_batch_size"], axolotl["lora_r"], axolotl["sequence_len"], axolotl["lora_target_linear"]) == (
        2,
        16,
        4096,
        True,
    )
    assert (
        factory["per_device_train_batch_size"],
        factory["lora_rank"],
        factory["cutoff_len"],
        factory["lora_target"],
    ) == (2, 16, 4096, "all")


def test_what_would_train_something_else_is_refused() -> None:
    with pytest.raises(PlanError, match=r"^parallel.tp: '2' cannot be started from the Trainer script"):
        made("hf", LORA, parallel={"tp": 2, "sharding": "zero3"})
    with pytest.raises(PlanError, match=r"^method.name: 'lisa' cannot"):
        made("hf", LORA, method="lisa", parallel={}, hardware={"gpu": "H100 SXM 80GB"})


def test_a_hostile_name_ends_no_comment_and_becomes_no_code() -> None:
    config = {**TINY, "_name_or_path": "x\nimport os; os.abort()\n'''"}
    for form in ("hf", "trl", "deepspeed", "slurm", "skypilot", "dstack"):
        for file in made(form, {"model": config, "hardware": {"gpu": "H100 SXM 80GB"}}).files:
            assert not [line for line in file.text.splitlines() if line.startswith("import os; os.abort")]
            if file.name.endswith(".py"):
                compile(file.text, file.name, "exec")


@pytest.mark.parametrize("name", list(CONFIGS))
def test_peft_takes_the_arguments(name: str) -> None:
    peft = pytest.importorskip("peft")
    fields: dict[str, Any] = {"virtual_tokens": 8} if name in ("prompt", "prefix", "p_tuning") else {}
    if name in ("lora", "dora", "vera", "loha", "lokr"):
        fields = {"rank": 4, "targets": ["q_proj"]}
    kind, arguments, left = peft_config(Method(name=name, **fields)) or ("", {}, [])
    assert not left
    built = getattr(peft, kind)(**arguments)
    assert "targets" not in fields or built.target_modules == {"q_proj"}


@pytest.mark.parametrize(
    ("form", "method"), [("hf", {"name": "lora", "rank": 4, "targets": "all-linear"}), ("hf", {"name": "full"}), ("trl", {"name": "lora", "rank": 4})]
)
def test_the_script_trains_as_it_is(tmp_path: Path, form: str, method: dict[str, Any]) -> None:
    pytest.importorskip("transformers" if form == "hf" else "trl")
    run = {
        "model": TINY,
        "method": method,
        "hardware": {"gpu": "H100 SXM 80GB"},
        "batch": {"micro": 2, "accumulation": 2, "seq_len": 16},
        "activation_checkpointing": "full",
    }
    (tmp_path / "run.json").write_text(json.dumps(run), encoding="utf-8")
    assert main(["launch", str(tmp_path / "run.json"), "--format", form, "-o", str(tmp_path)]) == 0
    script = "train.py" if form == "hf" else "train_trl.py"
    done = subprocess.run(
        [sys.executable, script, "--max-steps", "3"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    state = json.loads((tmp_path / "out" / "trainer_state.json").read_text(encoding="utf-8"))
    assert state["global_step"] == 3
    assert [entry["step_seconds"] for entry in state["log_history"] if "step_seconds" in entry]
    if method["name"] == "lora":
        assert "trainable params: 4,608 " in done.stdout or "trainable params:" in done.stdout


def test_the_trl_script_is_python_and_says_its_packing() -> None:
    data = {"samples": 1000, "mean_tokens": 300, "std_tokens": 100, "packing": "best-fit"}
    text = text_of(made("trl", LORA, hardware={"gpu": "H100 SXM 80GB"}, parallel={}, data=data))
    compile(text, "train_trl.py", "exec")
    assert "PACKING = True" in text and "@packing@" not in text and '"packing"' in text
    with pytest.raises(PlanError, match="cannot be started from TRL's SFTTrainer"):
        made("trl", LORA, method={"name": "prompt", "virtual_tokens": 8})


def test_every_format_is_listed_in_order() -> None:
    assert list(FORMATS) == [
        "hf", "trl", "torchrun", "accelerate", "deepspeed", "slurm", "torchtitan", "megatron", "axolotl", "torchtune", "llamafactory", "skypilot", "dstack",
    ]  # fmt: skip
    assert all(each.reference for each in FORMATS.values())
