"""dstack: a task that starts the script on rented machines."""

from __future__ import annotations

from typing import Any

import yaml

from planner.launch.base import Draft, Plan, register
from planner.launch.clouds import gpu_of, packages
from planner.launch.trainer import script


@register("dstack", label="dstack YAML", position=110, reference="dstack 0.22.5 core/models/configurations.py, TaskConfiguration")
def dstack(plan: Plan) -> Draft:
    """`.dstack.yml` beside `train.py`: one torchrun on every node."""
    text, says, notes = script(plan)
    _, name, memory = gpu_of(plan, "a dstack task")
    if plan.machines == 1:
        start = 'torchrun --standalone --nproc-per-node "$DSTACK_GPUS_PER_NODE" train.py'
    else:
        start = (
            'torchrun --nnodes "$DSTACK_NODES_NUM" --node-rank "$DSTACK_NODE_RANK" --nproc-per-node "$DSTACK_GPUS_PER_NODE" '
            '--master-addr "$DSTACK_MASTER_NODE_IP" --master-port 29500 train.py'
        )
    task: dict[str, Any] = {
        "type": "task", "name": "plan", "nodes": plan.machines, "python": "3.12", "files": ["train.py"], "commands": [packages(plan), start],
        "resources": {"gpu": {"name": name, "memory": memory, "count": plan.per_machine}}, "spot_policy": "spot" if plan.run.price.spot else "on-demand",
    }  # fmt: skip
    return Draft(
        {"plan.dstack.yml": yaml.safe_dump(task, sort_keys=False), "train.py": text}, says | {"gpus", "gpu", "spot"}, "dstack apply -f plan.dstack.yml",
        (*notes, "Gated models need HF_TOKEN among env."),
    )  # fmt: skip
