"""Jobs outlive whoever started them: two users, a cancel, a kill, a resume, and folders that are not ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

from planner import load_profile
from planner.calibrate import jobs
from planner.calibrate.jobs import ENDED, Job, Request, Status
from planner.calibrate.partial import Partial
from planner.errors import PlanError


def wait(job: Job, ready: Callable[[Status], bool], seconds: float = 90.0) -> Status:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = job.status()
        if ready(status):
            return status
        time.sleep(0.1)
    raise AssertionError(f"still {job.status()}\n{(job.folder / 'log.txt').read_text()}")


def test_two_users_share_one_job_and_a_cancel_leaves_a_profile(tmp_path: Path) -> None:
    job = jobs.start(Request(device="cpu", budget=120), tmp_path)
    assert jobs.start(Request(device="cpu", budget=30), tmp_path) == job
    assert jobs.running("cpu", tmp_path) == job
    assert jobs.running("cuda:0", tmp_path) is None
    status = wait(job, lambda s: s.cases >= 8)
    assert status.state == "running"
    assert status.label
    job.cancel()
    ended = wait(job, lambda s: s.state in ENDED)
    assert ended.state == "cancelled"
    assert load_profile(job.profile).basis == "calibrated"
    assert jobs.running("cpu", tmp_path) is None
    assert jobs.jobs(tmp_path) == [job]


def test_a_killed_worker_is_reported_and_its_samples_are_gone_on_from(tmp_path: Path) -> None:
    job = jobs.start(Request(device="cpu", budget=120), tmp_path)
    wait(job, lambda s: s.cases >= 5)
    pid = job.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    status = wait(job, lambda s: s.state == "lost")
    assert "is gone" in status.message
    kept = Partial(job.samples).read()
    assert len(kept) >= 5
    again = jobs.start(Request(device="cpu", budget=5), tmp_path, resume=job)
    assert again != job
    wait(again, lambda s: s.state == "done")
    assert Partial(again.samples).read()[: len(kept)] == kept


def test_what_goes_wrong_is_a_sentence(tmp_path: Path) -> None:
    job = jobs.start(Request(device="cuda:7", budget=5), tmp_path)
    status = wait(job, lambda s: s.state in ENDED)
    assert status.state == "failed"
    assert status.message.startswith("device")
    assert "Traceback" not in (job.folder / "log.txt").read_text()


def test_a_folder_without_a_status_is_lost_and_strange_names_are_not_jobs(tmp_path: Path) -> None:
    (tmp_path / "calibrations" / "20260101T000000-cpu").mkdir(parents=True)
    (tmp_path / "calibrations" / "notes").mkdir()
    found = jobs.jobs(tmp_path)
    assert [job.name for job in found] == ["20260101T000000-cpu"]
    assert found[0].status().state == "lost"
    with pytest.raises(PlanError, match="no request"):
        found[0].request()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "calibrations").write_text("a file")
    with pytest.raises(PlanError, match="data folder"):
        jobs.start(Request(device="cpu", budget=5), tmp_path)


def test_the_machine_lists_its_devices_without_torch_in_this_process() -> None:
    found = jobs.devices()
    assert found[-1]["device"] == "cpu"
    code = "import sys; from planner.calibrate import jobs; jobs.devices(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("device", ["", "cpu; rm -rf /", "../x", "CUDA:0", "cuda:"])
def test_a_request_names_a_torch_device(device: str) -> None:
    with pytest.raises(ValueError, match="device"):
        Request(device=device, budget=5)
