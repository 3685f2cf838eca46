"""What starts the script on several accelerators: torchrun, accelerate, DeepSpeed's configuration, a Slurm job."""

from __future__ import annotations

import json
from typing import Any

import yaml

from planner.launch.base import Draft, Plan, impossible, register
from planner.launch.trainer import fsdp_config, script


def torchrun_command(plan: Plan, rest: str = "train.py") -> str:
    """The command on every machine; of several, MASTER_ADDR names the first."""
    nodes = (
        "--standalone"
        if plan.machines == 1
        else f"--nnodes {plan.machines} --rdzv-backend c10d --rdzv-endpoint $MASTER_ADDR:29500 --rdzv-id plan"
    )
    return f"torchrun {nodes} --nproc-per-node {plan.per_machine} {rest}"


@register("torchrun", label="torchrun", position=20, reference="torch.distributed.run, torch 2.13")
def torchrun(plan: Plan) -> Draft:
    """`run.sh` beside `train.py`."""
    text, says, notes = script(plan)
    start = torchrun_command(plan, 'train.py "$@"')
    return Draft({"run.sh": f"#!/bin/sh\nset -e\n{start}\n", "train.py": text}, says | {"gpus"}, "sh run.sh", notes)


@register(
    "accelerate",
    label="accelerate with FSDP",
    position=30,
    reference="accelerate 1.15 commands/config, utils/dataclasses.FullyShardedDataParallelPlugin",
)
def accelerate(plan: Plan) -> Draft:
    """`accelerate.yaml` beside `train.py`."""
    text, says, notes = script(plan)
    run, fsdp = plan.run, fsdp_config(plan)
    precision = run.precision
    assert precision is not None
    mixed = precision.compute if precision.autocast and precision.compute in ("bf16", "fp16") else "no"
    config: dict[str, Any] = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "FSDP" if fsdp and plan.gpus > 1 else "MULTI_GPU" if plan.gpus > 1 else "NO",
        "mixed_precision": mixed,
        "num_machines": plan.machines,
        "num_processes": plan.gpus,
        "machine_rank": 0,
        "main_training_function": "main",
        "rdzv_backend": "static" if plan.machines == 1 else "c10d",
        "same_network": True,
        "use_cpu": False,
        "debug": False,
    }
    if fsdp and plan.gpus > 1:
        config["fsdp_config"] = {
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_reshard_after_forward": fsdp["reshard_after_forward"],
            "fsdp_offload_params": fsdp.get("cpu_offload", False),
            "fsdp_state_dict_type": "SHARDED_STATE_DICT",
            "fsdp_cpu_ram_efficient_loading": True,
        }
    start = "accelerate launch --config_file accelerate.yaml train.py"
    if plan.machines > 1:
        start = "accelerate launch --config_file accelerate.yaml --machine_rank $RANK_OF_MACHINE --main_process_ip $MASTER_ADDR"
        start += " --main_process_port 29500 train.py"
    return Draft(
        {"accelerate.yaml": yaml.safe_dump(config, sort_keys=False), "train.py": text}, says | {"gpus"}, start, notes
    )


@register(
    "deepspeed",
    label="DeepSpeed",
    position=40,
    reference="DeepSpeed 0.19.8 runtime/config.py, DeepSpeedConfig",
)
def deepspeed(plan: Plan) -> Draft:
    """`ds_config.json` beside `train.py`."""
    text, says, notes = script(plan)
    run = plan.run
    precision = run.precision
    assert precision is not None
    stages = {None: 0, "none": 0, "ddp": 0, "zero1": 1, "zero2": 2, "zero3": 3}
    if run.parallel.sharding not in stages:
        raise impossible(
            "parallel.sharding", run.parallel.sharding, "a DeepSpeed configuration", "Use zero1, zero2 or zero3."
        )
    stage = stages[run.parallel.sharding]
    zero: dict[str, Any] = {"stage": stage}
    said = {"gpus", "sharding"}
    if run.offload in ("optimizer", "optimizer+params") and stage:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
        said.add("offload")
    if run.offload in ("params", "optimizer+params"):
        if stage == 3:
            zero["offload_param"] = {"device": "cpu", "pin_memory": True}
            said.add("offload")
        else:
            says, said = says - {"offload"}, said - {"offload"}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": run.batch.micro,
        "gradient_accumulation_steps": run.batch.accumulation,
        "train_batch_size": run.batch.micro * run.batch.accumulation * run.dp,
        "gradient_clipping": 1.0,
        "zero_optimization": zero,
        "bf16": {"enabled": precision.compute == "bf16" and (precision.autocast or precision.weights == "bf16")},
        "fp16": {"enabled": precision.compute == "fp16"},
    }
    if config["bf16"]["enabled"] and precision.weights == "fp32":
        says -= {"weights"}  # DeepSpeed casts the model; its fp32 copies live in the optimizer
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if run.stack == "deepspeed":
        said.add("stack")
    if precision.master_weights and precision.compute in ("bf16", "fp16"):
        said.add("master-weights")
    start = torchrun_command(plan, "train.py --deepspeed ds_config.json")
    return Draft({"ds_config.json": json.dumps(config), "train.py": text}, says | said, start, notes)


@register("slurm", label="Slurm job", position=50, reference="sbatch(1), torch.distributed.run")
def slurm(plan: Plan) -> Draft:
    """`job.slurm` beside `train.py`: one torchrun on every machine."""
    text, says, notes = script(plan)
    start = torchrun_command(plan)
    body = (
        "#!/bin/bash\n"
        "#SBATCH --job-name=plan\n"
        f"#SBATCH --nodes={plan.machines}\n"
        "#SBATCH --ntasks-per-node=1\n"
        f"#SBATCH --gpus-per-node={plan.per_machine}\n"
        "#SBATCH --exclusive\n"
        "set -euo pipefail\n"
        'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)\n'
        f"srun --kill-on-bad-exit=1 {start}\n"
    )
    return Draft(
        {"job.slurm": body, "train.py": text},
        says | {"gpus"},
        "sbatch job.slurm",
        (*notes, "Add your cluster's account, partition and time limit."),
    )
