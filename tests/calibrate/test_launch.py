"""Launch files are what their programs read, and name what was asked."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml

from planner.calibrate.launch import launch_file
from planner.cli import main
from planner.errors import PlanError


def test_slurm_is_a_shell_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--launch", "slurm", "--nodes", "4", "--gpus", "2", "--budget", "quick"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("#!/bin/sh\n#SBATCH")
    assert {"#SBATCH --nodes=4", "#SBATCH --gpus-per-node=2"} <= set(text.splitlines())
    assert "--nnodes 4 --nproc-per-node 2" in text
    assert "--budget 30 " in text
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)


def test_skypilot_is_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--launch", "skypilot", "--accelerator", "H200", "--json"]) == 0
    task = yaml.safe_load(json.loads(capsys.readouterr().out.splitlines()[-1])["text"])
    assert (task["num_nodes"], task["resources"]) == (2, {"accelerators": "H200:8"})
    assert "planner.calibrate.distributed" in task["run"]
    subprocess.run(["sh", "-n"], input=task["run"], text=True, check=True)


@pytest.mark.parametrize("wrong", [{"kind": "k8s"}, {"nodes": 0}, {"gpus": -1}, {"accelerator": "H100; rm -rf ~"}])
def test_what_is_no_launch_is_one_line(wrong: dict[str, object]) -> None:
    with pytest.raises(PlanError):
        launch_file(**{"kind": "slurm", **wrong})  # type: ignore[arg-type]
