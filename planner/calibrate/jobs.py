"""Measurements that run beside the app: a folder a job, a worker process, one job per device for everybody. Imports no torch.

    DATA/calibrations/20260101T120000-cpu/
        request.json     what was asked; written before the worker starts
        status.json      state and progress, replaced whole by the worker, its heartbeat included
        samples.jsonl    every sample as soon as it exists
        profile.json     the result, with profile.samples.json beside it
        cancel           there when somebody wants it to stop
        log.txt          what the worker printed

The folder is the only truth, so a job survives reload, navigation and a restart of the server.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planner.calibrate.budget import LEAST, MOST
from planner.errors import PlanError
from planner.files import data_folder, write_whole

State = Literal["starting", "running", "done", "failed", "cancelled", "lost"]
ENDED: Final = ("done", "failed", "cancelled", "lost")
HEARTBEAT_S: Final = 1.0
SILENT_S: Final = 30.0
"""A worker that wrote no heartbeat for so long is lost: one case takes a few seconds at most."""
_NAME: Final = re.compile(r"[0-9]{8}T[0-9]{6}-[A-Za-z0-9.-]{1,60}")


_children: Final[dict[int, subprocess.Popen[bytes]]] = {}
"""Workers that this process started."""


class Request(BaseModel):
    """What was asked. run: the plan whose operations are measured first, as a run file's mapping."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = Field(min_length=1, max_length=32, pattern=r"^[a-z]+(:[0-9]+)?$")
    budget: float = Field(ge=LEAST, le=MOST, description="[s]")
    run: dict[str, object] | None = None


class Status(BaseModel):
    """How far it is.

    share: of the budget · seconds: since the start · reading: the driver's figures where it has any, and history: their last minutes ·
    benchmarks: (label, cases measured, cases there are) in the order of their names.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: State
    label: str = ""
    share: float = 0.0
    seconds: float = 0.0
    cases: int = 0
    pid: int | None = None
    heartbeat: float = 0.0
    message: str = ""
    reading: dict[str, float | None] = Field(default_factory=dict)
    history: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    benchmarks: tuple[tuple[str, int, int], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """One measurement, past or running."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def profile(self) -> Path:
        return self.folder / "profile.json"

    @property
    def samples(self) -> Path:
        return self.folder / "samples.jsonl"

    def request(self) -> Request:
        """What was asked. Raises `PlanError` where the folder holds no request."""
        try:
            return Request.model_validate_json((self.folder / "request.json").read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise PlanError("calibration", self.name, f"holds no request ({type(error).__name__})", "Remove its folder.") from None

    def status(self) -> Status:
        """What the worker last said; "lost" when it should still be there and is not."""
        try:
            found = Status.model_validate_json((self.folder / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            return Status(state="lost", message="The measurement left no sign of itself.")
        if found.state in ENDED or (time.time() - found.heartbeat < SILENT_S and _alive(found.pid)):
            return found
        words = f"The measuring process is gone. {found.cases} samples are kept; start again to go on from them."
        return found.model_copy(update={"state": "lost", "message": words})

    def write(self, status: Status) -> None:
        """Replace the status whole, so that no reader sees half of it."""
        write_whole(self.folder / "status.json", status.model_dump_json())

    @property
    def cancelled(self) -> bool:
        return (self.folder / "cancel").exists()

    def cancel(self) -> None:
        """Ask the worker to stop after the case that it measures now; what was measured becomes a profile."""
        (self.folder / "cancel").touch()

    def kill(self) -> None:
        """End the worker at once; its samples stay."""
        pid = self.status().pid
        if pid is not None and _alive(pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it has just ended, or is not ours
                os.killpg(pid, signal.SIGTERM)


def _alive(pid: int | None) -> bool:
    if pid is None:
        return True  # it has not said yet who it is
    child = _children.get(pid)
    if child is not None:  # our own child that has ended stays a zombie until it is asked for
        if child.poll() is not None:
            del _children[pid]
            return False
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs as somebody else
        return True
    return True


def jobs(folder: Path | None = None) -> list[Job]:
    """All measurements, the newest first."""
    root = (folder or data_folder()) / "calibrations"
    if not root.is_dir():
        return []
    return [Job(path) for path in sorted(root.iterdir(), reverse=True) if path.is_dir() and _NAME.fullmatch(path.name)]


def of_device(device: str, folder: Path | None = None) -> Iterator[Job]:
    """Measurements of one device, the newest first."""
    for job in jobs(folder):
        with contextlib.suppress(PlanError):
            if job.request().device == device:
                yield job


def running(device: str, folder: Path | None = None) -> Job | None:
    """The job that measures this device now, whoever started it."""
    return next((job for job in of_device(device, folder) if job.status().state not in ENDED), None)


def start(request: Request, folder: Path | None = None, *, resume: Job | None = None) -> Job:
    """Start a worker, or join the one that already measures this device.

    resume: an earlier job of the same device whose samples are kept.

    Errors: PlanError when the data folder cannot be written.
    """
    root = folder or data_folder()
    try:
        with _lock(root):
            already = running(request.device, root)
            if already is not None:
                return already
            now = datetime.datetime.now(datetime.UTC)
            while (root / "calibrations" / f"{now:%Y%m%dT%H%M%S}-{_safe(request.device)}").exists():
                now += datetime.timedelta(seconds=1)
            job = Job(root / "calibrations" / f"{now:%Y%m%dT%H%M%S}-{_safe(request.device)}")
            job.folder.mkdir(parents=True)
            (job.folder / "request.json").write_text(request.model_dump_json(), encoding="utf-8")
            if resume is not None and resume.samples.exists() and resume.request().device == request.device:
                job.samples.write_bytes(resume.samples.read_bytes())
            job.write(Status(state="starting", label="Starting", heartbeat=time.time()))
            with (job.folder / "log.txt").open("wb") as log:
                child = subprocess.Popen(
                    [sys.executable, "-m", "planner.calibrate.worker", str(job.folder)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            _children[child.pid] = child
            return job
    except OSError as error:
        raise PlanError(
            "data folder", str(root), f"cannot be written: {error.strerror or error}", "Name another one in PLANNER_DATA."
        ) from None


def devices(timeout: float = 60.0) -> list[dict[str, str]]:
    """Devices that torch sees here, asked of a process of its own: name for torch, name to read, and what is wrong with it.

    Errors: PlanError with a plain sentence when torch is missing or does not answer.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "planner.calibrate.worker", "--devices"], capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise PlanError("device", "", f"did not answer within {timeout:g} s", "Look at the driver, then reload the page.") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PlanError("device", "", f"cannot be listed: {last[:200]}", "Install torch (pip install torch); planning works on.")
    found: list[dict[str, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _safe(device: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]", "-", device)


@contextlib.contextmanager
def _lock(root: Path) -> Iterator[None]:
    """Only one process of this machine starts a job at a time."""
    (root / "calibrations").mkdir(parents=True, exist_ok=True)
    with (root / "calibrations" / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
