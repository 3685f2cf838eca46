"""Files that start a calibration between several machines: Slurm and SkyPilot. Imports no torch, so that a login node can write them."""

from __future__ import annotations

import re
from typing import Final

from planner.errors import PlanError

SLURM: Final = """\
#!/bin/sh
#SBATCH --job-name=planner-calibrate
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={gpus}
#SBATCH --time=00:20:00
# Submit from a folder that all machines share: sbatch FILE. collectives.json and profile.json are written there.
set -eu
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes {nodes} --nproc-per-node {gpus} --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$head:29500" \\
  -m planner.calibrate.distributed --out collectives.json
srun --nodes 1 --ntasks 1 python -m planner calibrate --device cuda:0 --budget {budget:g} --collectives collectives.json --out profile.json
"""
SKYPILOT: Final = """\
# sky launch FILE, then: sky rsync-down CLUSTER sky_workdir/profile.json .
name: planner-calibrate
resources: {{accelerators: "{accelerator}:{gpus}"}}
num_nodes: {nodes}
workdir: .  # the planner's own folder
setup: pip install torch numpy pydantic pyyaml nvidia-ml-py
run: |
  set -eu
  head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)
  torchrun --nnodes "$SKYPILOT_NUM_NODES" --node-rank "$SKYPILOT_NODE_RANK" --nproc-per-node "$SKYPILOT_NUM_GPUS_PER_NODE" \\
    --master-addr "$head" --master-port 29500 -m planner.calibrate.distributed --out collectives.json
  if [ "$SKYPILOT_NODE_RANK" = 0 ]; then
    python -m planner calibrate --device cuda:0 --budget {budget:g} --collectives collectives.json --out profile.json
  fi
"""
LAUNCHERS: Final = {"slurm": SLURM, "skypilot": SKYPILOT}


def launch_file(kind: str, *, nodes: int = 2, gpus: int = 8, accelerator: str = "H100", budget: float = 120.0) -> str:
    """Text of a launch file.

    Arguments
    ---------
    kind: a name of `LAUNCHERS`.
    nodes, gpus: machines, and accelerators of each.
    accelerator: SkyPilot's name of the part.
    budget: of the calibration of one accelerator, after the collectives [s].

    Errors: PlanError for another kind, a count below 1, or a name that is none.
    """
    if kind not in LAUNCHERS:
        raise PlanError("launch", kind, "has no launch file", f"Write {' or '.join(LAUNCHERS)}.")
    for field, value in (("nodes", nodes), ("gpus", gpus)):
        if not 1 <= value <= 10_000:
            raise PlanError(field, value, "is no number of them", "Use 1 or more.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}", accelerator):
        raise PlanError("accelerator", accelerator, "is no name of an accelerator", "Use SkyPilot's, such as H100 or H200.")
    return LAUNCHERS[kind].format(nodes=nodes, gpus=gpus, accelerator=accelerator, budget=budget)
