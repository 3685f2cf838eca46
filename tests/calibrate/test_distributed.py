"""Collectives between two real processes on this machine, and what becomes of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from planner.calibrate.distributed import corrections, main, read
from planner.calibrate.result import Sample
from planner.device.collectives import Topology, collective_seconds
from planner.errors import PlanError

ROOT = Path(__file__).resolve().parents[2]
NODE = Topology(8, 450e9, "nvswitch", 50e9)


def test_two_processes_measure_and_rank_0_writes(tmp_path: Path) -> None:
    out = tmp_path / "collectives.json"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "planner.calibrate.distributed"]
    done = subprocess.run([*command, "--out", str(out), "--largest-mib", "1"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    samples = read(out)
    assert {s.case["kind"] for s in samples} == {"all_reduce", "all_gather", "broadcast", "send_recv"}
    assert {s.case["group"] for s in samples} == {2.0}
    assert max(float(s.case["payload"]) for s in samples) == 2**20
    assert all(len(s.raw) == 7 and s.seconds > 0 for s in samples)


def test_the_law_takes_the_measured_times_where_it_was_measured() -> None:
    sizes = [2.0**power for power in range(12, 31, 2)]
    made = [
        Sample(
            benchmark="collectives",
            case={"kind": "all_reduce", "payload": size, "group": 8.0, "nodes": 1.0},
            seconds=1.4 * collective_seconds("all_reduce", size, 8, NODE),
            iqr=0.0,
            raw=(1.0,),
        )
        for size in sizes
    ]
    wired = Topology(8, 450e9, "nvswitch", 50e9, measured=tuple(corrections(made, NODE).items()))
    for size in (2.0**15, 2.0**23, 2.0**29):
        assert collective_seconds("all_reduce", size, 8, wired) == pytest.approx(1.4 * collective_seconds("all_reduce", size, 8, NODE), rel=0.05)
    assert collective_seconds("all_gather", 2.0**20, 8, wired) == collective_seconds("all_gather", 2.0**20, 8, NODE)


def test_without_torchrun_it_says_how_to_start(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert main(["--out", str(tmp_path / "c.json")]) == 2
    assert "torchrun --nproc-per-node" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{}", '{"version": 9, "samples": []}', '{"version": 1, "samples": [{}]}'])
def test_files_of_another_kind_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(PlanError, match="collectives"):
        read(path)
