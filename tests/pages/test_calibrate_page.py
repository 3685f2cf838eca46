"""The Calibrate page: what it says without torch, during a job, after one, and what it does to the plan."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from planner.calibrate import jobs
from planner.calibrate.jobs import Job, Status
from planner.calibrate.telemetry import WARNINGS
from planner.catalog import find_accelerator
from planner.device import default_profile
from planner.device.processor import processor_profile
from planner.errors import PlanError
from planner.ui import measuring
from tests.pages.conftest import Open

CPU = [{"device": "cpu", "name": "A processor (2 threads)"}]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLANNER_DATA", str(tmp_path))
    monkeypatch.setattr(jobs, "devices", lambda timeout=60.0: CPU)
    measuring.devices.clear()
    return tmp_path


def job_of(folder: Path, status: Status) -> Job:
    job = Job(folder / "calibrations" / "20260101T120000-cpu")
    job.folder.mkdir(parents=True)
    (job.folder / "request.json").write_text('{"device": "cpu", "budget": 30}')
    job.write(status)
    return job


def words(app: object) -> str:
    kinds = ("title", "markdown", "caption", "info", "error", "warning", "subheader")
    return "\n".join(str(element.value) for kind in kinds for element in getattr(app, kind))


def test_without_torch_it_says_so_and_planning_works_on(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(timeout: float = 60.0) -> list[dict[str, str]]:
        raise PlanError("device", "", "cannot be listed: No module named torch", "Install torch (pip install torch); planning works on.")

    monkeypatch.setattr(jobs, "devices", none)
    measuring.devices.clear()
    app = open_app("calibrate")
    assert not app.exception
    assert "Install torch" in words(app)
    assert not app.button(key="profile_stop") if "profile_stop" in [b.key for b in app.button] else True


def test_a_running_job_is_shown_to_everybody_and_can_be_stopped(open_app: Open, folder: Path) -> None:
    job = job_of(folder, Status(state="running", label="Matrix products", share=0.4, cases=17, seconds=12, heartbeat=time.time(), reading={"power_w": 412.0}))
    app = open_app("calibrate")
    assert not app.exception
    assert app.button(key="calibrate_start").disabled
    assert "412 W" in [m.value for m in app.metric]
    app.button(key="calibrate_cancel").click().run()
    assert job.cancelled


def test_warnings_are_said_while_it_runs_and_a_missing_gpu_is_one_sentence(
    open_app: Open, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = "This torch was built for processors alone."
    monkeypatch.setattr(jobs, "devices", lambda timeout=60.0: [CPU[0] | {"note": note}])
    measuring.devices.clear()
    job_of(folder, Status(state="running", cases=3, heartbeat=time.time(), warnings=("mig", "other_processes", "not_permitted")))
    app = open_app("calibrate")
    assert not app.exception
    said = words(app)
    assert note in said
    for name in ("mig", "other_processes", "not_permitted"):
        assert WARNINGS[name] in said.replace("\\", "")


def test_figures_and_benchmarks_of_a_running_job_are_followed(open_app: Open, folder: Path) -> None:
    status = Status(
        state="running", label="Attention", share=0.5, cases=12, heartbeat=time.time(),
        reading={"sm_clock_mhz": 1755.0, "temperature_c": 63.0, "power_w": None, "memory_bytes": 2.0**31},
        history={"sm_clock_mhz": (1700.0, 1755.0), "memory_bytes": (2.0**30, 2.0**31)},
        benchmarks=(("Fused attention", 4, 56), ("Matrix products", 8, 168)),
    )  # fmt: skip
    job_of(folder, status)
    app = open_app("calibrate")
    assert not app.exception
    assert [(m.label, m.value) for m in app.metric][-3:] == [("Clock", "1755 MHz"), ("Temperature", "63 °C"), ("Memory in use", "2 GiB")]
    assert [f.history for f in measuring.readings(status)] == [(1700, 1755), (), (1.0, 2.0)]
    table = next(d.value for d in app.dataframe if "benchmark" in d.value)
    assert list(table["cases"]) == ["4 of 56", "8 of 168"]


@pytest.mark.parametrize("state", ["done", "cancelled"])
def test_the_end_is_what_it_does_to_the_plan(open_app: Open, folder: Path, state: str) -> None:
    job = job_of(folder, Status.model_validate({"state": state, "cases": 90}))
    part = default_profile(find_accelerator("H100 SXM 80GB"))
    part.model_copy(update={"basis": "calibrated", "peak_flops": {k: v / 2 for k, v in part.peak_flops.items()}}).dump(job.profile)
    app = open_app("calibrate")
    assert not app.exception
    said = app.success[0].value
    assert "Your plan changes from" in said
    assert ("stopped early" in said) is (state == "cancelled")


def test_a_lost_job_says_so_and_offers_to_go_on(open_app: Open, folder: Path) -> None:
    job_of(folder, Status(state="running", label="Attention", cases=40, heartbeat=time.time() - 1000, pid=1))
    app = open_app("calibrate")
    assert "40 samples are kept" in words(app)
    assert app.button(key="calibrate_start").label == "Go on"


def test_a_measured_device_changes_the_plan_and_back(open_app: Open, folder: Path) -> None:
    part = default_profile(find_accelerator("H100 SXM 80GB"))
    slow = part.model_copy(update={"basis": "calibrated", "name": "my H100", "peak_flops": {k: v / 2 for k, v in part.peak_flops.items()}})
    (folder / "profiles").mkdir()
    slow.dump(folder / "profiles" / "mine.json")
    app = open_app("calibrate")
    assert not app.exception
    assert "Your plan changes from" in words(app)
    app.button(key="calibrate_use").click().run()
    assert "my H100" in words(app)
    assert app.session_state["current"].estimate.basis == "calibrated"
    app.button(key="profile_stop").click().run()
    assert app.session_state["current"].estimate.basis != "calibrated"


def test_a_processor_outside_the_catalogue_plans_one_device(open_app: Open, folder: Path) -> None:
    (folder / "profiles").mkdir()
    processor_profile("A processor", threads=8, memory_bytes=64e9).model_copy(update={"basis": "calibrated"}).dump(folder / "profiles" / "cpu.json")
    app = open_app("calibrate")
    assert "On this device your plan" in words(app)
    app.button(key="calibrate_use").click().run()
    assert not app.exception
    assert app.session_state["current"].run.hardware.gpus == 1
    app.switch_page("pages/plan.py").run()
    assert not app.exception


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("a.json", b"no json", "is not JSON"), ("b.json", b"{}", "version"), ("c.json", b"x" * (5 * 2**20), "larger than 4 MiB")],
)
def test_a_bad_profile_is_refused_and_leaves_nothing(folder: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        measuring.keep_upload(name, content)
    assert not list(folder.rglob("*.json"))


def test_a_file_name_cannot_leave_its_folder(folder: Path) -> None:
    good = folder / "good.json"
    default_profile(find_accelerator("H100 SXM 80GB")).dump(good)
    kept = measuring.keep_upload("../../evil/../x;y.json", good.read_bytes())
    assert kept.path.parent == folder / "profiles"
    assert kept.path.name == "x-y.json"
    shutil.rmtree(folder / "profiles")
