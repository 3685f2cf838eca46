"""SkyPilot: a task that starts the script on rented machines."""

from __future__ import annotations

from typing import Any

import yaml

from planner.launch.base import Draft, Plan, register
from planner.launch.clouds import gpu_of, packages
from planner.launch.trainer import script


@register("skypilot", label="SkyPilot YAML", position=100, reference="skypilot 0.14.1 sky/utils/schemas.py, get_task_schema")
def skypilot(plan: Plan) -> Draft:
    """`sky.yaml` beside `train.py`: one torchrun on every node."""
    text, says, notes = script(plan)
    name, _, _ = gpu_of(plan, "a SkyPilot task")
    resources: dict[str, Any] = {"accelerators": f"{name}:{plan.per_machine}"}
    if plan.run.price.spot:
        resources["use_spot"] = True
    start = (
        'torchrun --nnodes "$SKYPILOT_NUM_NODES" --node-rank "$SKYPILOT_NODE_RANK" --nproc-per-node "$SKYPILOT_NUM_GPUS_PER_NODE" \\\n'
        '  --master-addr "$(echo "$SKYPILOT_NODE_IPS" | head -n 1)" --master-port 29500 train.py\n'
    )
    task: dict[str, Any] = {"name": "plan", "num_nodes": plan.machines, "resources": resources, "workdir": ".", "setup": packages(plan) + "\n", "run": start}
    return Draft(
        {"sky.yaml": yaml.safe_dump(task, sort_keys=False), "train.py": text}, says | {"gpus", "gpu", "spot"}, "sky launch -c plan sky.yaml",
        (*notes, "Gated models need HF_TOKEN: sky launch --secret HF_TOKEN."),
    )  # fmt: skip
